"""One connection to a bus, and the services and clients on it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar

import msgspec

from kitmsg.auth.signing import CallSigner
from kitmsg.auth.vouched import Trust
from kitmsg.balance.everyone import everyone
from kitmsg.balance.fleet import Fleet
from kitmsg.balance.routes import Route
from kitmsg.bus import Bus
from kitmsg.codec import Codec
from kitmsg.context import Context, current
from kitmsg.discovery.directory import Directory
from kitmsg.endpoints import Middleware
from kitmsg.message import check_subject
from kitmsg.metrics.families import Family, joined
from kitmsg.metrics.memory import MemoryMetrics
from kitmsg.metrics.provider import Provider
from kitmsg.schema.calls import StreamRequest
from kitmsg.service.counted import families
from kitmsg.service.declare import Service, need_apart
from kitmsg.service.host import ServiceHost
from kitmsg.service.inject import injected
from kitmsg.service.peers import Peers
from kitmsg.service.plain import decode_plain, plain_encoder
from kitmsg.service.proxy import make_client
from kitmsg.service.report import report
from kitmsg.service.storing import Storing
from kitmsg.transport.caller import DEFAULT_TIMEOUT, After
from kitmsg.transport.client import Client
from kitmsg.transport.stream_client import StreamCall, StreamClient
from kitmsg.wire import PRINCIPAL

if TYPE_CHECKING:
    from types import TracebackType

    from kitmsg.endpoints import Endpoint

__all__ = ["Kit"]

S = TypeVar("S", bound=Service)

_MOST_ROUTED = 1_000  # calls by name and route that are kept


class Kit(Storing):
    """Services and clients on one bus.

    Args:
        bus: What carries the messages; closed with the kit.
        codec: How requests travel, those of injected clients too; by default MessagePack to
            kitmsg's own services and JSON to all others, which are asked once what they are.
        trust: Keys that may vouch for the callers of services here; None where callers
            are nobody.
        auth: Signs the calls of clients that have no `auth` of their own, where no caller
            stands behind them: a turn passes on the principal that it has.
        breaker: Whether clients send a service that cannot keep up only as many calls as
            it answers, and a few to try it (`kitmsg.middleware.adaptive_breaker`).
        metrics: Injected into services that take a `kitmsg.metrics.Provider`; by default
            one that keeps its numbers in memory.  A worker gives one that its page and
            ``--metrics`` show.
        makes_streams: Whether streams that events and services declare are made where they
            are missing; by default ``kitmsg streams apply`` does that, except in memory.

    Attributes:
        hosts: The services that are served here.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        codec: Codec | None = None,
        trust: Trust | None = None,
        auth: CallSigner | None = None,
        breaker: bool = True,
        metrics: Provider | None = None,
        makes_streams: bool = False,
    ) -> None:
        self.bus = bus
        self.codec = codec
        self.trust = trust
        self.auth = auth
        self.metrics: Provider = MemoryMetrics() if metrics is None else metrics
        self._breaker = breaker
        self.makes_streams = makes_streams
        self._peers = Peers(bus)
        self.hosts: list[ServiceHost] = []
        self._drained: list[ServiceHost] = []  # counted still
        self._was_connected: bool | None = None  # when it closed; None before
        self._directory = Directory(bus)
        self._fleets: dict[str, Fleet] = {}
        self._routed: dict[object, Endpoint[Any, Any]] = {}

    async def serve(self, service: Service | Callable[..., Service]) -> ServiceHost:
        """Serve a service until the kit closes; returns when the bus routes to it.

        Args:
            service: An instance, or the class or a function that makes one.  Where that
                takes another service (by the annotation), it is given a client.

        Raises:
            TypeError: It is not a service.
            InvalidArgument: It cannot be made: an argument is missing; or another class of
                its name is served here.
            Disconnected: The bus was lost meanwhile.
        """
        host = ServiceHost(
            self.bus,
            injected(service, self),
            trust=self.trust,
            makes_streams=self.makes_streams,
            metrics=self.metrics,
        )
        for other in self.hosts:
            if not other.is_draining:
                need_apart(type(host.service), type(other.service))
        await host.start()
        self.hosts.append(host)
        return host

    def client(
        self,
        service: type[S],
        *,
        timeout: float | None = None,
        middleware: Sequence[Middleware] = (),
        metadata: dict[str, str] | None = None,
        instance: str = "",
        codec: Codec | None = None,
        after: Sequence[After] = (),
        auth: CallSigner | None = None,
        route: Route | None = None,
    ) -> S:
        """Return an object with the endpoints of `service`, called over the bus.

        Its methods raise `KitError`s: `NoResponders`, `DeadlineExceeded`, `Disconnected`,
        the errors the service answers with, and those an endpoint declares as themselves.

        Args:
            service: The service's class.
            timeout: Longest call, in seconds, over all that `middleware` does: attempts and
                the waits between them; by default what the endpoint declares, else 5.
                Inside a turn, the turn's deadline wins if it is nearer.
            middleware: Around every call; the first is outermost.
            metadata: Headers to send with every call.
            instance: Call only the instance with this id.
            codec: How requests travel; by default the kit's.
            after: Run on each reply to an ask, errors too; they see its headers.
            auth: Signs every call, as `kitmsg.auth.signing.PrincipalSigner.service` or
                `kitmsg.auth.signing.JwtSigner` does; by default the kit's.
            route: Chooses the instance of each call: `kitmsg.balance.direct`, `sticky`,
                `version` or `split`; by default the server picks at random.  It learns
                from the calls that this client makes, so keep the client.

        Raises:
            TypeError: `service` is no class of a service.
            ValueError: `timeout` is not positive; or there are a route and an instance.
        """
        return make_client(
            self.bus,
            service,
            timeout=timeout,
            middleware=middleware,
            metadata=metadata,
            instance=instance,
            codec=codec or self.codec,
            after=after,
            auth=auth or next(iter(self._signers), None),
            hint=self._directory.hint,
            peers=self._peers,
            breaker=self._breaker,
            route=route,
            fleet=self.fleet,
        )

    def everyone(self, service: type[Service], *, timeout: float = 1.0) -> Any:
        """Return an object with the endpoints of `service`, each called on all instances.

        ``async for answer in kit.everyone(Orders).health(): ...`` gives a
        `kitmsg.balance.Answer` of each instance that answers ``$SRV``, as they come: a
        value or an error.  Those that say nothing in time get `DeadlineExceeded`.

        Args:
            service: The service's class.
            timeout: Seconds for all answers together.

        Raises:
            TypeError: `service` is no class of a service.
            ValueError: `timeout` is not positive.
            NoResponders: From the iteration: no instance is there.
        """

        def client(instance: str) -> Any:
            return self.client(service, timeout=timeout, instance=instance)

        client("")  # its arguments are checked at once
        return everyone(self.bus, service.name, client, timeout)

    def fleet(self, service: str) -> Fleet:
        """Return the instances of a service, as routes know them.

        Args:
            service: Its name.
        """
        found = self._fleets.get(service)
        if found is None:
            found = self._fleets[service] = Fleet(self.bus, service)
        return found

    async def call(
        self,
        name: str,
        request: dict[str, Any] | None = None,
        /,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        codec: Codec | None = None,
        route: Route | None = None,
        **fields: Any,
    ) -> Any:
        """Call an endpoint without its class: ``call("greeter.hello", name="Ann")``.

        A field of the request that is called as an option here, `timeout`, `codec` or
        `route`, goes in the dict: ``call("jobs.run", {"timeout": 30})``.

        Args:
            name: Dotted name, such as ``greeter.hello``.
            request: The request's fields; `fields` are added to it.
            timeout: Longest call, in seconds.
            codec: How the request travels; by default the kit's.
            route: Chooses the instance, as in `client`.  Equal routes of one endpoint are
                one, so that it learns from call to call.
            fields: More fields of the request.

        Returns:
            The response as plain objects: dicts, lists, numbers, text.

        Raises:
            KitError: As the methods of `client`.
        """

        def make(codec: Codec, subject: str = name) -> Endpoint[Any, Any]:
            return Client[Any, Any](
                self.bus,
                subject,
                name=name,
                encode=plain_encoder(codec),
                decode=decode_plain,
                timeout=timeout,
                before=self._signers,
                hint=self._directory.hint if subject == name else None,
            ).endpoint()

        if route is None:
            call = self._in_codec(name, codec, make, timeout)
        else:
            call = self._on_route(route, name, codec, make, timeout)
        return await call(current(), {**(request or {}), **fields})

    def _on_route(
        self,
        route: Route,
        name: str,
        codec: Codec | None,
        make: Callable[..., Endpoint[Any, Any]],
        timeout: float,
    ) -> Endpoint[Any, Any]:
        """Return the call of an endpoint by a route: the one of before, if it was."""
        key = route, name, codec and codec.name, timeout
        found = self._routed.get(key)
        if found is None:
            check_subject(name)
            fleet = self.fleet(name.partition(".")[0])

            def routed(chosen: Codec) -> Endpoint[Any, Any]:
                at = functools.partial(make, chosen)
                return fleet.routed(route, name, name, at)

            if len(self._routed) >= _MOST_ROUTED:
                self._routed.clear()
            found = self._in_codec(name, codec, routed, timeout)
            self._routed[key] = found
        return found

    def stream(
        self,
        name: str,
        request: dict[str, Any] | None = None,
        /,
        *,
        items: AsyncIterator[Any] | None = None,
        timeout: float | None = None,
        codec: Codec | None = None,
        **fields: Any,
    ) -> StreamCall[Any]:
        """Call an endpoint that streams, without its class.

        Args:
            name: Dotted name, such as ``ticker.watch``.
            request: The request's fields; `fields` are added to it.
            items: What to stream to it, as plain objects; None for nothing.
            timeout: Seconds the whole stream may take; None for as long as it likes.
            codec: How what is sent travels; by default the kit's.
            fields: More fields of the request.

        Returns:
            Its items as plain objects; one item where it gives a single result.  It is
            opened when it is first read, and raises as the methods of `client`.
        """

        def make(codec: Codec) -> Endpoint[Any, Any]:
            encode = plain_encoder(codec)
            return StreamClient(
                self.bus,
                name,
                encode=encode,
                decode=decode_plain,
                encode_item=encode if items is not None else None,
                gives_items=True,
                lifetime=timeout,
                before=self._signers,
                hint=self._directory.hint,
            ).endpoint()

        call = self._in_codec(name, codec, make, timeout)
        sent = StreamRequest({**(request or {}), **fields}, items)
        ctx = current()
        return StreamCall(lambda: call(ctx, sent))

    @property
    def _signers(self) -> tuple[CallSigner, ...]:
        return () if self.auth is None else (_where_nobody_calls(self.auth),)

    def _in_codec(
        self,
        name: str,
        codec: Codec | None,
        make: Callable[[Codec], Endpoint[Any, Any]],
        timeout: float | None,
    ) -> Endpoint[Any, Any]:
        """Return the call that `make` makes, in `codec` or the kit's or its service's."""
        chosen = codec or self.codec
        if chosen is not None:
            return make(chosen)
        check_subject(name)
        return self._peers.endpoint(name.partition(".")[0], name, make, timeout)

    @property
    def is_connected(self) -> bool:
        """Whether the bus can be reached; of a closed kit, whether it could be then."""
        if self._was_connected is not None:
            return self._was_connected
        return self.bus.is_connected

    def collect(self) -> list[Family]:
        """Return the counters of the services and the connection; `metrics` has its own."""
        told = msgspec.to_builtins(report(self, [*self._drained, *self.hosts]))
        return families([(1, 0, told)])

    def collect_all(self) -> list[Family]:
        """Return what `collect` does and what `metrics` has, each series once."""
        if not isinstance(self.metrics, MemoryMetrics):
            return self.collect()
        own = () if self.metrics.shows(self.collect) else self.collect()
        return joined([*own, *self.metrics.collect()])

    async def drain(self, timeout: float | None = None) -> None:
        """Stop serving, each service as `ServiceHost.drain` does, all at once."""
        hosts, self.hosts = self.hosts, []
        self._drained += hosts
        drains = (host.drain(timeout) for host in hosts)
        for end in await asyncio.gather(*drains, return_exceptions=True):
            if isinstance(end, BaseException):
                raise end

    async def close(self) -> None:
        """Drain, and close the bus."""
        try:
            await self.drain()
        finally:
            for fleet in self._fleets.values():
                await fleet.close()
            if self._was_connected is None:
                self._was_connected = self.bus.is_connected
            await self.bus.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


def _where_nobody_calls(auth: CallSigner) -> CallSigner:
    """Return a signer that leaves alone the calls that a principal stands behind."""

    def sign(ctx: Context, fields: dict[str, str]) -> None:
        if PRINCIPAL not in fields:
            auth(ctx, fields)

    return sign
