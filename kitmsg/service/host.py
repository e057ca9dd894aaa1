"""Serves one instance of a service on a bus: endpoints, control subjects, lifecycle.

    start()  -> the instance's `start`, then the queue group, then the announcement
    drain()  -> the goodbye, out of the queue group, the mailbox, the instance's `stop`

A failure that nobody declared is told to the host, which keeps or replaces the instance.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import secrets
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from kitmsg.auth.allow import AUTHENTICATES, anyone
from kitmsg.bus.memory import MemoryBus
from kitmsg.bus.reach import at_site
from kitmsg.discovery.subject import (
    EndpointInfo,
    EndpointReport,
    Responder,
    ServiceInfo,
    ServiceReport,
)
from kitmsg.endpoints import Endpoint, chain
from kitmsg.errors import KitError
from kitmsg.events.background import Tasks
from kitmsg.jetstream.opening import jetstream_of
from kitmsg.metrics.discard import DISCARD
from kitmsg.metrics.stats import Snapshot, quantile
from kitmsg.middleware.allow import allow
from kitmsg.service.declare import Declaration, Service, unservable
from kitmsg.service.employed import Employed
from kitmsg.service.quarantine import Quarantine
from kitmsg.service.stored import needs_store
from kitmsg.service.work import event_schemas, told_by
from kitmsg.transport import gokit
from kitmsg.transport.intake import Intake
from kitmsg.transport.server import Server
from kitmsg.transport.stream_server import StreamServer, sending
from kitmsg.transport.typed import decode_item, decode_request, encode_response
from kitmsg.wire import DOWN, UP, schema_subject, schemas_subject

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.auth.vouched import Trust
    from kitmsg.bus import Bus, Subscription
    from kitmsg.message import Message
    from kitmsg.metrics.provider import Provider

__all__ = ["RestartsExceeded", "ServiceHost"]

_log = logging.getLogger("kitmsg.service")

_STOP_SECONDS = 3.0


class RestartsExceeded(RuntimeError):
    """A service failed so often that its worker should end."""


class ServiceHost:
    """One instance of a service, served on `bus`.

    Args:
        bus: What carries the messages.
        service: The instance; or the class or a function that makes one, which a
            supervision policy of ``restart`` needs.
        trust: Keys that may vouch for callers; None where callers are nobody.
        makes_streams: Whether streams that it needs are made where they are missing.
        metrics: Counts deliveries; None for nobody.

    Attributes:
        id: Unique name of this instance on the bus.
        is_draining: Whether its end has begun.
        failed: Done with `RestartsExceeded` when the instance must not go on.

    Raises:
        TypeError: `service` is not a service, or cannot be made again though its policy
            wants that.
    """

    def __init__(
        self,
        bus: Bus,
        service: Service | Callable[[], Service],
        *,
        trust: Trust | None = None,
        makes_streams: bool = False,
        metrics: Provider | None = None,
    ) -> None:
        self.bus = bus
        self.id = secrets.token_hex(8)
        self._factory = None if isinstance(service, Service) else service
        self.service = service if isinstance(service, Service) else _make(service)
        self.started = datetime.now(UTC)
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_draining = False
        self._restarts: deque[tuple[float, str]] = deque()  # when, and by which request
        self._restarting: asyncio.Task[None] | None = None
        self._schemas: list[Subscription] = []
        self._unwatch: Callable[[], None] = lambda: None
        supervision = self.service.supervision
        if supervision.policy == "restart" and self._factory is None:
            name = type(self.service).__name__
            raise TypeError(
                f"{name} restarts after a failure, so give the class or a function that"
                f" makes one: kit.serve({name}), not kit.serve({name}(...))"
            )
        most = supervision.max_restarts
        self.quarantine = Quarantine(
            max(2, most) if most else 0,
            supervision.window,
            asyncio.get_running_loop().time,
        )
        self.intake = Intake(
            bus,
            self.service.name,
            queue=self.service.queue,
            concurrency=self.service.concurrency,
            mailbox=self.service.mailbox,
            max_bytes=self.service.max_bytes,
            off=self.service.off,
            instance=self.id,
        )
        self._verifier = trust and trust.verifier(self.service.name)
        self._servers = {
            name: self._server(declaration)
            for name, declaration in self.service.__declarations__.items()
        }
        self._tasks = Tasks(self.service.name)
        self.service.__tasks__ = self._tasks
        self._employed = self._employ(metrics or DISCARD, makes_streams=makes_streams)
        self._responder = Responder(bus, self.info, self.report)

    @property
    def info(self) -> ServiceInfo:
        """The answer to INFO."""
        cls = type(self.service)
        return ServiceInfo(
            name=cls.name,
            id=self.id,
            version=cls.version,
            description=first_line(cls),
            metadata={**self.service.metadata, **told_by(cls)},
            endpoints=[
                EndpointInfo(
                    name=declaration.name,
                    subject=declaration.subject,
                    queue_group=self.service.queue,
                    metadata=declaration.metadata(),
                )
                for declaration in cls.__declarations__.values()
            ],
        )

    def snapshots(self) -> dict[str, Snapshot]:
        """Return a reading of each endpoint's counters, by dotted name."""
        found = {server.name: server.stats for server in self._servers.values()}
        if self._employed is not None:
            found |= self._employed.stats
        return {name: stats.snapshot() for name, stats in found.items()}

    @property
    def deliveries(self) -> int:
        """Deliveries that are worked on, or wait here to be."""
        return 0 if self._employed is None else self._employed.running

    def report(self) -> ServiceReport:
        """Return what STATS says: counters, latency quantiles, callers."""
        return ServiceReport(
            name=self.service.name,
            id=self.id,
            version=self.service.version,
            started=self.started.isoformat().replace("+00:00", "Z"),
            metadata=dict(self.service.metadata),
            endpoints=[
                self._endpoint_report(name, server)
                for name, server in self._servers.items()
            ],
        )

    async def start(self) -> None:
        """Start the instance and serve it; returns when the bus routes to it.

        Raises:
            Disconnected: The bus was lost meanwhile.
            Exception: Whatever the instance's own `start` raises.
        """
        await self.service.start()
        try:
            self._serve_schemas()
            self._responder.start()
            await self.intake.start()
            if self._employed is not None:
                await self._employed.start()
        except BaseException:
            await self.drain(0)  # what `start` opened is put away
            raise
        if not (self._servers or self._employed or self.service.publishes):
            _log.warning(
                "%s has no endpoint, so nobody can call it; write @endpoint before its"
                " methods",
                type(self.service).__name__,
            )
        self._warn_of_policies()
        self._announce()
        self._unwatch = self.bus.watch(self._connection_changed)
        _log.info(
            "%s %s is serving as %s", self.service.name, self.service.version, self.id
        )

    def _warn_of_policies(self) -> None:
        """Say so where policies can let in nobody, as no caller is ever known."""
        finders = [hasattr(m, AUTHENTICATES) for m in self.service.middleware]
        names = [
            declaration.name
            for declaration in self.service.__declarations__.values()
            if declaration.options.allow not in (None, anyone)
            and not any(
                hasattr(m, AUTHENTICATES) for m in declaration.options.middleware
            )
        ]
        if names and self._verifier is None and not any(finders):
            _log.warning(
                "%s: %s asks who calls, and nobody can be known: give the worker"
                " --trusted-keys, or the service middleware = (auth(...),)",
                self.service.name,
                ", ".join(names),
            )

    async def drain(self, timeout: float | None = None) -> None:
        """Stop: leave, finish the mailbox in `timeout` s, answer the rest, put away.

        Args:
            timeout: In seconds; the service's own `drain_timeout` by default.  The
                instance's `stop` has what is left of it, but at least 3 s.
        """
        limit = self.service.drain_timeout if timeout is None else timeout
        end = asyncio.get_running_loop().time() + limit
        self.is_draining = True
        self._unwatch()
        for subscription in self._schemas:
            subscription.unsubscribe()
        self._responder.stop()
        # Only now: whoever hears it asks whether we still answer a PING.
        self._say(DOWN, self.id.encode())
        if self._employed is not None:
            await self._employed.leave()
        await self.intake.drain(limit)
        left = end - asyncio.get_running_loop().time()
        if self._employed is not None:
            await self._employed.drain(left)
        await self._tasks.drain(left)
        if self._restarting is not None:
            await asyncio.wait([self._restarting], timeout=limit)
        await self._stop(end - asyncio.get_running_loop().time())
        _log.info("%s %s is drained", self.service.name, self.id)

    async def _stop(self, left: float) -> None:
        """Stop the instance in the `left` seconds, or in 3 s if there is less."""
        limit = max(left, _STOP_SECONDS)
        stopping = asyncio.ensure_future(self.service.stop())
        try:
            await asyncio.wait((stopping,), timeout=limit)
        finally:
            if not stopping.done():
                stopping.cancel()
        if stopping.done():
            return stopping.result()
        _log.error("%s: stop() took more than %.0f s", self.service.name, limit)
        return None

    def _employ(self, metrics: Provider, *, makes_streams: bool) -> Employed | None:
        """Return the work beside the calls; None for a service without any."""
        cls = type(self.service)
        if not cls.__work__ and not needs_store(cls):
            return None
        return Employed(
            self.bus,
            jetstream_of(self.bus),
            lambda: self.service,
            self.id,
            self.intake.mailbox,
            self._tasks,
            makes_streams=makes_streams or isinstance(self.bus, MemoryBus),
            metrics=metrics,
            told={
                name: (decode_request(declaration.signature), self._servers[name])
                for name, declaration in cls.__declarations__.items()
                if declaration.options.durable
            },
        )

    def _server(self, declaration: Declaration) -> Server:
        options, signature = declaration.options, declaration.signature
        coders: dict[str, Any] = {
            "decode": decode_request(signature),
            "encode": encode_response(signature),
        }
        if options.wire == "gokit":
            coders = {
                "decode": gokit.decode_request(signature),
                "encode": gokit.encode_response(signature),
                "error_encoder": functools.partial(
                    gokit.encode_error, raises=options.raises
                ),
            }
        make: Callable[..., Server] = Server
        if signature.stream:
            takes = signature.takes_items
            make = functools.partial(
                StreamServer,
                decode_item=decode_item(signature) if takes else None,
                gives_items=signature.gives_items,
                max_streams=self.service.max_streams,
            )
        return make(
            self.bus,
            declaration.subject,
            self._endpoint(declaration),
            name=f"{self.service.name}.{declaration.name}",
            timeout=options.timeout,
            raises=options.raises,
            intake=self.intake,
            on_failure=self._on_failure,
            verifier=self._verifier,
            before=[self.quarantine.check] if self._restarts_on_failure else (),
            **coders,
        )

    def _endpoint(self, declaration: Declaration) -> Endpoint[Any, Any]:
        """Return the method of the present instance, in its middlewares."""
        around = [*self.service.middleware, *declaration.options.middleware]
        policy = declaration.options.allow
        if policy is not None and policy.alternatives != anyone.alternatives:
            # Outermost, so that no cache answers in its place; but whoever finds the
            # principal comes before.
            finders = [i for i, one in enumerate(around) if hasattr(one, AUTHENTICATES)]
            around.insert(finders[-1] + 1 if finders else 0, allow(policy))
        with at_site(declaration.site(self.bus)):
            inner = self.service.__endpoint__(declaration)
            if declaration.signature.gives_items:
                inner = sending(inner)
            return chain(*around)(inner)

    def _endpoint_report(self, name: str, server: Server) -> EndpointReport:
        seen = server.stats.snapshot()
        running, waiting = server.in_hand()
        box = self.intake.mailbox
        return EndpointReport(
            name=name,
            subject=server.subject,
            queue_group=self.service.queue,
            num_requests=seen.requests + seen.shed,
            num_errors=seen.errors,
            last_error=seen.last_error,
            processing_time=seen.processing_ns,
            average_processing_time=seen.processing_ns // max(1, seen.requests),
            data={
                "latency_ns": {
                    f"p{q * 100:g}": quantile(seen.buckets, q) for q in (0.5, 0.9, 0.99)
                },
                "callers": seen.callers,
                "expired": seen.expired,
                "cancelled": seen.cancelled,
                "shed": seen.shed,
                "invalid": seen.invalid,
                "unvouched": seen.unvouched,
                "running": running,
                "waiting": waiting,
                "held": box.held,
                "is_stuck": box.is_stuck,
            },
        )

    def _serve_schemas(self) -> None:
        """Serve the schemas, all by ``{service}._schema`` and each by its hash."""
        declarations = self.service.__declarations__
        described = {name: d.describe() for name, d in declarations.items()}
        described |= event_schemas(type(self.service))
        bodies = {schemas_subject(self.service.name): described} | {
            schema_subject(self.service.name, schema["hash"]): schema
            for schema in described.values()
        }
        for subject, body in bodies.items():
            answer = self._answer_with(msgspec.json.encode(body))
            self._schemas.append(self.bus.subscribe(subject, answer, "q"))

    def _answer_with(self, body: bytes) -> Callable[[Message], None]:
        def answer(message: Message) -> None:
            if message.reply and self.bus.inboxes.takes(message.reply):
                self.bus.publish(message.reply, body)

        return answer

    def _announce(self) -> None:
        self._say(UP, msgspec.json.encode(self.info))

    def _connection_changed(self, is_up: bool) -> None:
        if is_up:  # whoever lost sight of it meanwhile need not ask around
            self._announce()

    def _say(self, what: str, data: bytes) -> None:
        try:
            self.bus.publish(f"{what}.{self.service.name}", data)
        except KitError as exc:
            _log.debug("%s: not announced: %s", self.service.name, exc)

    @property
    def _restarts_on_failure(self) -> bool:
        return self.service.supervision.policy == "restart"

    def _on_failure(self, error: BaseException, message: Message) -> None:
        if not self._restarts_on_failure or self._restarting is not None:
            return
        supervision = self.service.supervision
        now = asyncio.get_running_loop().time()
        key, is_refused = self.quarantine.note(message)
        self._restarts.append((now, key))
        while self._restarts[0][0] < now - supervision.window:
            self._restarts.popleft()
        if is_refused:  # its share of the restarts is for others again
            kept = [entry for entry in self._restarts if entry[1] != key]
            self._restarts = deque(kept)
        if len(self._restarts) > supervision.max_restarts:
            self._give_up(error)
        else:
            self._restarting = asyncio.create_task(self._restart())

    async def _restart(self) -> None:
        """Replace the instance; turns that still run keep the old one until they end.

        Streams might never end, so they are cut off.
        """
        old = self.service
        try:
            fresh = _make(self._factory) if self._factory else old
            fresh.__tasks__ = self._tasks
            await fresh.start()
            self.service = fresh
            for name, declaration in fresh.__declarations__.items():
                self._servers[name].replace(self._endpoint(declaration))
            _log.warning("%s %s was restarted", fresh.name, self.id)
            await self.intake.mailbox.turned_over()
            await self._put_away(old)
        except Exception as exc:  # noqa: BLE001  the new instance may fail in any way
            _log.exception("%s could not be restarted", old.name)
            self._give_up(exc)
        finally:
            self._restarting = None

    async def _put_away(self, old: Service) -> None:
        """Stop an instance that was replaced; it was broken, so this may fail."""
        if old is self.service:
            return
        try:
            await old.stop()
        except Exception:  # noqa: BLE001  logged; the new instance serves already
            _log.exception("%s: the old instance did not stop well", old.name)

    def _give_up(self, error: BaseException) -> None:
        if not self.failed.done():
            supervision = self.service.supervision
            failure = RestartsExceeded(
                f"{self.service.name} failed more than {supervision.max_restarts} times in"
                f" {supervision.window:g} s; the last time with {type(error).__name__}"
            )
            failure.__cause__ = error
            self.failed.set_exception(failure)
            self.failed.exception()  # it may be that nobody asks


def _make(factory: Callable[[], Service]) -> Service:
    """Return what `factory` makes.

    Raises:
        TypeError: It is no factory of services.
    """
    if not callable(factory):
        raise TypeError(
            f"{factory!r} is not a service; write a class on kitmsg.Service"
        )
    why = unservable(factory) if isinstance(factory, type) else ""
    if why:
        raise TypeError(why)
    made = factory()
    if not isinstance(made, Service):
        raise TypeError(f"{factory!r} made {made!r}, which is not a kitmsg.Service")
    return made


def first_line(cls: type[Service]) -> str:
    doc = inspect.cleandoc(cls.__doc__ or "") if "__doc__" in cls.__dict__ else ""
    return doc.partition("\n")[0]
