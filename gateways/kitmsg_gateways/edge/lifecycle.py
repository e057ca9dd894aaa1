"""`Gateway`: one door on a bus, from its sockets to its last answer.

A protocol's server inherits it and says how a connection is served; the order of starting
and stopping is the same for all:

    start   sockets, metrics page, keys and files, catalogue; then the first connection
    stop    no more connections; what is in flight has `drain_timeout`; then the rest ends
"""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from kitmsg.errors import FailedPrecondition, InvalidArgument
from kitmsg.worker.levels import LevelResponder, gateway_name
from kitmsg_gateways.edge.admission import Admission, Connections, raise_file_limit
from kitmsg_gateways.edge.auth import Auth, Gate
from kitmsg_gateways.edge.budget import Budget
from kitmsg_gateways.edge.calls import Callers
from kitmsg_gateways.edge.catalogue import Catalogue
from kitmsg_gateways.edge.files import Files
from kitmsg_gateways.edge.health import Health, MetricsPage
from kitmsg_gateways.edge.listener import Listener, bind
from kitmsg_gateways.edge.metrics import Metrics
from kitmsg_gateways.edge.options import EventOptions
from kitmsg_gateways.edge.shown import Shown
from kitmsg_gateways.edge.tls import Tls

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Iterable, Sequence

    from kitmsg.bus import Bus
    from kitmsg.discovery.catalog import Catalog
    from kitmsg.metrics.families import Family
    from kitmsg_gateways.edge.admission import Place
    from kitmsg_gateways.edge.files import Reloadable
    from kitmsg_gateways.edge.options import EdgeOptions, Options, SocketOptions

__all__ = ["Gateway", "SocketGateway"]

O = TypeVar("O", bound="EdgeOptions")  # noqa: E741  # options
S = TypeVar("S", bound="SocketOptions")
T = TypeVar("T")


class Gateway(Generic[O, T]):
    """One gateway on a bus, which it does not close.

    A subclass has `_build`, `_served`, and how it listens: `port`, `_bind`, `_open`,
    `_drain`; `SocketGateway` has these.

    Args:
        bus: Where the services are.
        options: Limits, times and switches.
        table: What is served until the bus was looked at.
        sockets: Listen on these, which may be shared with other processes, instead of
            the address in `options`; they are closed at the end.

    Attributes:
        options: As given.
        metrics: Counters of calls and connections.
        admission: Counts the calls in flight, and refuses those beyond the limit.
        budget: Counts the bytes that are held for clients, likewise.
        health: Whether calls should be sent here.
        auth: Checks credentials.
        gate: Lets calls in: authentication and rate limits.
        callers: Its calls over the bus.

    Raises:
        KitError: An option does not fit, or a file cannot be used.
    """

    kind: ClassVar[str]
    """As in ``kitmsg gateway KIND``."""

    title: ClassVar[str]
    """As people write it."""

    protocols: ClassVar[tuple[str, ...]] = ()
    """Protocols offered to clients in a TLS handshake (ALPN)."""

    def __init__(
        self,
        bus: Bus,
        options: O,
        table: T,
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        if options.workers > 1 and not sockets:
            raise InvalidArgument(
                f"workers: this is one process; kitmsg gateway {self.kind} --workers"
                " starts more"
            )
        self.options = options
        self.auth = Auth(options, self.realm(options))
        self.gate = Gate(self.auth, options)
        self.bus = bus
        self.metrics = Metrics(self.kind)
        if sockets:  # or who reads the page would take several counters for one
            self.metrics.process = str(os.getpid())
        self.metrics.served = self._served
        self.budget = self.metrics.budget = Budget(options.max_held_bytes)
        self.admission = Admission(self.metrics, options.max_concurrent)
        self._shown = Shown(options)
        self.catalogue: Catalogue[T] = Catalogue(
            bus,
            options.discovery_interval,
            self._rebuilt,
            table,
            self._changed,
            options.subject_policy,
        )
        self.health = Health(bus, self.catalogue)
        self.callers = Callers(bus, self.kind, options)
        self._log = logging.getLogger(f"kitmsg_gateways.{self.kind}")
        self._tls = self.make_tls(options) if options.tls_cert else None
        readers: list[Reloadable] = [self._tls] if self._tls else []
        self._files = Files([*readers, *self.auth.readers], options.reload_interval)
        self._stack: contextlib.AsyncExitStack | None = None

    @classmethod
    def check(cls, options: O) -> None:
        """Check what can be checked without a bus; see `Package.check`.

        Raises:
            KitError: An option does not fit, or a file cannot be used.
            ValueError: An option does not fit.
        """
        Auth(options, cls.realm(options))
        if options.tls_cert:
            cls.make_tls(options)

    @staticmethod
    def listen(options: O) -> list[socket.socket]:
        """Return listening sockets for several processes to share.

        Raises:
            OSError: The address cannot be had; ``errno.EADDRINUSE`` when it is taken.
        """
        raise NotImplementedError

    @classmethod
    def realm(cls, options: O) -> str:
        """Return what credentials are for, as a browser shows it."""
        del options
        return cls.title

    @classmethod
    def make_tls(cls, options: O) -> Tls:
        """Return the gateway's side of TLS; raises as `Tls`."""
        is_optional = options.tls_client_optional
        return Tls(options, cls.protocols, is_optional=is_optional)

    @property
    def table(self) -> T:
        """The routing table of now."""
        return self.catalogue.table

    @property
    def port(self) -> int:
        """The port it listens on.

        Raises:
            FailedPrecondition: It is not started.
        """
        raise NotImplementedError

    @property
    def address(self) -> str:
        """Host and port, such as ``127.0.0.1:8080``."""
        host = self.options.host or "localhost"
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """Address, such as ``http://127.0.0.1:8080``; ``https`` with TLS."""
        return f"{self.kind}{'s' if self.options.tls_cert else ''}://{self.address}"

    @property
    def is_draining(self) -> bool:
        """Whether it is stopping: what is in flight is finished, nothing begun."""
        return self.health.is_draining

    async def start(self) -> None:
        """Find the services, then accept calls.

        Raises:
            OSError: The address cannot be had.
            KitError: What was asked for cannot be served.
        """
        async with contextlib.AsyncExitStack() as stack:
            await self._bind(stack)
            if self.options.metrics_port:
                page = MetricsPage(
                    self.options.host,
                    self.options.metrics_port,
                    self.metrics,
                    self.health,
                )
                await page.start()
                stack.callback(page.stop)
            stack.push_async_callback(self.callers.close)
            for part in (self.auth, self.catalogue):
                stack.push_async_callback(part.stop)
                await part.start()
            levels = LevelResponder(self.bus)
            levels.start([(gateway_name(self.kind), str(os.getpid()))])
            stack.callback(levels.stop)
            self._files.start()
            stack.callback(self._files.stop)
            self._check()
            await self._open()
            self._stack = stack.pop_all()
        self._log.info(
            "%s gateway, %s, ready at %s", self.title, self._counted(), self.url
        )

    def _counted(self) -> str:
        """Return what is served, in a few words: endpoints, and events that are open."""
        options: Options = self.options
        events: frozenset[str] = frozenset()
        if isinstance(options, EventOptions):
            events = options.opens("publish") | options.opens("read")
        counted = {"endpoint": self._served(), "event": len(events)}
        words = [f"{n} {noun}{'s' * (n != 1)}" for noun, n in counted.items() if n]
        return " and ".join(words) or "0 endpoints"

    async def stop(self) -> None:
        """Accept no more, finish what is in flight in `drain_timeout`, close.

        What is not finished then is cancelled, and with it the services' turns.
        """
        stack, self._stack = self._stack, None
        if stack is None:
            return
        self.health.is_draining = True
        async with stack:
            await self._drain()

    def reload(self) -> None:
        """Read certificates, keys and passwords again, now; connections stay."""
        self._files.look(is_forced=True)

    def collect(self) -> Iterable[Family]:
        """Yield the counters."""
        return self.metrics.collect()

    def exposition(self) -> str:
        """Return the counters in Prometheus' text format."""
        return self.metrics.exposition()

    def _rebuilt(self, found: Catalog) -> T:
        shown = self._shown.of(found)
        self.callers.keep(shown.endpoints)
        return self._build(shown)

    def _build(self, found: Catalog) -> T:
        """Return the table of what is on the bus."""
        raise NotImplementedError

    def _served(self) -> int:
        """Return how many endpoints are served now."""
        raise NotImplementedError

    def _changed(self, before: T) -> None:
        """Follow a change of `table`."""

    def _check(self) -> None:
        """Refuse to start where what was asked for cannot be served."""

    def _warn(self, refused: Iterable[str], before: Iterable[str]) -> None:
        """Log what is refused now and was not before."""
        said = set(before)
        for sentence in refused:
            if sentence not in said:
                self._log.warning("%s", sentence)

    async def _bind(self, stack: contextlib.AsyncExitStack) -> None:
        """Have the sockets, and accept nothing yet."""
        raise NotImplementedError

    async def _open(self) -> None:
        """Accept connections."""
        raise NotImplementedError

    async def _drain(self) -> None:
        """Accept no more, and wait for what is in flight."""
        raise NotImplementedError


class SocketGateway(Gateway[S, T]):
    """A gateway that serves connections itself; a subclass has `_protocol` too.

    Attributes:
        connections: Counts connections, and refuses those beyond the limit.
    """

    refusal: ClassVar[bytes] = b""
    """The answer to a connection that there is no place for."""

    def __init__(
        self,
        bus: Bus,
        options: S,
        table: T,
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        super().__init__(bus, options, table, sockets)
        self.connections = self.metrics.connections = Connections(
            raise_file_limit(options.max_connections),
            options.max_connections_per_address,
            self._is_exempt,
        )
        self._shared = list(sockets)
        self._listener: Listener | None = None

    @staticmethod
    def listen(options: S) -> list[socket.socket]:  # noqa: D102
        return bind(options.host, options.port, reuse_port=options.reuse_port)

    @property
    def port(self) -> int:  # noqa: D102
        if self._listener is None or not self._listener.sockets:
            raise FailedPrecondition("the gateway is not started")
        return int(self._listener.sockets[0].getsockname()[1])

    def _is_exempt(self, address: str) -> bool:
        """Tell whether an address has no limit of its own: a proxy."""
        del address
        return False

    def _protocol(self, place: Place) -> asyncio.BaseProtocol:
        """Return the protocol of a new connection, which gives its place back."""
        raise NotImplementedError

    async def _bind(self, stack: contextlib.AsyncExitStack) -> None:
        options = self.options
        self._listener = Listener(
            self._shared or self.listen(options),
            self._protocol,
            self.connections,
            tls=self._tls.context if self._tls else None,
            handshake_timeout=options.handshake_timeout,
            is_shared=bool(self._shared),
            refusal=self.refusal,
        )
        stack.push_async_callback(self._listener.stop)

    async def _open(self) -> None:
        assert self._listener is not None  # noqa: S101  # `_bind` made it
        self._listener.start()

    async def _drain(self) -> None:
        await self._stop_listening()
        if not await self.admission.drained(self.options.drain_timeout):
            self._log.warning("%d calls did not finish in time", self.metrics.in_flight)

    async def _stop_listening(self) -> None:
        assert self._listener is not None  # noqa: S101  # `_bind` made it
        await self._listener.stop()
