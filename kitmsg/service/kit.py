"""One connection to a bus, and the services and clients on it."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self, TypeVar

from kitmsg.auth.signing import AUDIENCE, CallSigner
from kitmsg.auth.trusted import trusted_keys
from kitmsg.auth.vouched import Trust
from kitmsg.balance.everyone import everyone
from kitmsg.balance.fleet import Fleet
from kitmsg.balance.routes import Route
from kitmsg.bus import Bus
from kitmsg.bus.memory import MemoryBus
from kitmsg.codec import (
    DECODE_ERRORS,
    ENCODE_ERRORS,
    JSON,
    MSGPACK,
    RAW,
    Codec,
    translate,
)
from kitmsg.context import Context, current
from kitmsg.discovery.directory import Directory
from kitmsg.endpoints import Middleware
from kitmsg.errors import DataLoss, InvalidArgument
from kitmsg.events.event import Event
from kitmsg.events.log import Log
from kitmsg.events.publish import PUBLISH_SECONDS, Publisher
from kitmsg.events.tells import Teller, cancel_tell
from kitmsg.jetstream.opening import jetstream_of
from kitmsg.message import check_subject
from kitmsg.metrics.memory import MemoryMetrics
from kitmsg.metrics.provider import Provider
from kitmsg.schema.calls import StreamRequest
from kitmsg.service.declare import Service, need_apart
from kitmsg.service.host import ServiceHost
from kitmsg.service.inject import injected
from kitmsg.service.peers import Peers
from kitmsg.service.proxy import make_client
from kitmsg.service.told import make_teller
from kitmsg.transport.caller import DEFAULT_TIMEOUT, After
from kitmsg.transport.client import Client
from kitmsg.transport.stream_client import StreamCall, StreamClient
from kitmsg.transport.typed import Encode, reply_codec
from kitmsg.wire import PRINCIPAL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator
    from types import TracebackType

    from kitmsg.endpoints import Endpoint
    from kitmsg.jetstream import JetStream
    from kitmsg.message import Message

__all__ = ["DEFAULT_URL", "Kit", "connect", "trust_of"]

S = TypeVar("S", bound=Service)
E = TypeVar("E", bound=Event)

_MOST_ROUTED = 1_000  # calls by name and route that are kept

DEFAULT_URL = "nats://127.0.0.1:4222"


class Kit:
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
                encode=_plain_encoder(codec),
                decode=_decode_plain,
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
            encode = _plain_encoder(codec)
            return StreamClient(
                self.bus,
                name,
                encode=encode,
                decode=_decode_plain,
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

    @functools.cached_property
    def jetstream(self) -> JetStream:
        """The store behind the bus: streams, consumers, key-value buckets."""
        return jetstream_of(self.bus)

    @functools.cached_property
    def _publisher(self) -> Publisher:
        is_own = self.makes_streams or isinstance(self.bus, MemoryBus)
        return Publisher(self.jetstream, self.codec or JSON, makes_streams=is_own)

    async def publish(
        self,
        event: Event,
        *,
        id: str = "",  # noqa: A002
        timeout: float = PUBLISH_SECONDS,
    ) -> int:
        """Publish an event; returns its sequence once its stream has it.

        Args:
            event: The event.
            id: By which the stream knows it again, for two minutes unless its class says
                else: an event that is published twice is stored once.
            timeout: Longest wait for the stream's word, in seconds; in a turn, its
                deadline, if that is nearer.

        Raises:
            InvalidArgument: A field does not fit its class; nothing is stored.
            FailedPrecondition: No stream stores it.
            ResourceExhausted: The stream is full.
            Disconnected: There is no connection; nothing is stored.
            DeadlineExceeded: No word in time; it may be stored.
        """
        return await self._publisher.publish(event, id=id, timeout=timeout)

    async def publish_many(
        self, events: Iterable[Event], *, timeout: float = PUBLISH_SECONDS
    ) -> list[int]:
        """Publish events side by side; returns their sequences, in order.  As `publish`.

        One that fails fails the call; others may be stored.
        """
        return await self._publisher.publish_many(events, timeout=timeout)

    def events(
        self,
        event: type[E],
        *,
        since: datetime | int | None = None,
        where: Mapping[str, Any] | None = None,
        follow: bool = False,
    ) -> Log[E]:
        """Read the log of an event: ``async for placed in kit.events(OrderPlaced): ...``.

        Args:
            event: The class.
            since: A time or a sequence to begin at; None for the first that is stored.
            where: Values of fields that are in the subject; others are passed over.
            follow: Whether to go on at the end, with events as they are published.
        """
        return Log(self.jetstream, event, since=since, where=where, follow=follow)

    def tell(
        self,
        service: type[S],
        *,
        after: float = 0.0,
        at: datetime | None = None,
        id: str = "",  # noqa: A002
        timeout: float = PUBLISH_SECONDS,
    ) -> S:
        """Return an object with the durable endpoints of `service`, which are stored calls.

        ``await kit.tell(Mailer).send("a@b.example", "hi")`` returns once the stream has
        it; it is carried out by whichever instance is there, now or later, and again if it
        fails.

        Args:
            service: The service's class.
            after: Seconds until it is carried out; 0 for now.
            at: When it is carried out.
            id: By which the stream knows it again, and by which `cancel_tell` finds it.
            timeout: Longest wait for the stream's word, in seconds.

        Raises:
            TypeError: `service` is no class of a service.
            ValueError: A time that it cannot have.
        """
        teller = Teller(
            self.jetstream, service.name, after=after, at=at, id_=id, timeout=timeout
        )
        return make_teller(service, teller)

    async def cancel_tell(self, service: type[Service], id: str) -> bool:  # noqa: A002
        """Cancel a tell that waits for its time; False if there is none of this id."""
        return await cancel_tell(self.jetstream, service.name, id)

    async def drain(self, timeout: float | None = None) -> None:
        """Stop serving, each service as `ServiceHost.drain` does, all at once."""
        hosts, self.hosts = self.hosts, []
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


_encoders = {codec.name: codec.encoder(Any) for codec in (MSGPACK, JSON)}
_encoders[RAW.name] = RAW.encoder(bytes)
_decoders = {codec.name: codec.decoder(Any) for codec in (MSGPACK, JSON)}
_decoders[RAW.name] = RAW.decoder(bytes)


def _plain_encoder(codec: Codec) -> Encode:
    write = _encoders[codec.name]

    def encode(ctx: Context, request: Any) -> bytes:
        ctx.codec = codec
        try:
            return write(request)
        except ENCODE_ERRORS as exc:
            raise InvalidArgument(
                f"the request has no form on the wire: {exc}"
            ) from exc

    return encode


def _decode_plain(ctx: Context, message: Message) -> Any:
    codec = reply_codec(ctx, message).name
    try:
        return _decoders[codec](message.data)
    except DECODE_ERRORS as exc:
        why = translate(exc, codec)
        raise DataLoss(f"the reply cannot be read: {why}") from exc


def trust_of(
    bus: Bus, sources: str | Sequence[str], audience: str = AUDIENCE
) -> Trust | None:
    """Return the trust in keys that are in files or on the bus; None for no keys.

    Args:
        bus: Where buckets are.
        sources: As `kitmsg.auth.trusted.trusted_keys` takes them.
        audience: The system that principals must be for.

    Raises:
        InvalidArgument: There are no keys in a source.
        FailedPrecondition: A library is missing.
    """
    given = [sources] if isinstance(sources, str) else list(sources)
    if not any(given):
        return None
    return Trust(trusted_keys(given, lambda: bus.request), audience=audience)


def _where_nobody_calls(auth: CallSigner) -> CallSigner:
    """Return a signer that leaves alone the calls that a principal stands behind."""

    def sign(ctx: Context, fields: dict[str, str]) -> None:
        if PRINCIPAL not in fields:
            auth(ctx, fields)

    return sign


class _Connecting:
    """Awaited, a connected kit; as ``async with``, one that closes at the end."""

    def __init__(self, connect: Callable[[], Awaitable[Kit]]) -> None:
        self._connect = connect
        self._kit: Kit | None = None

    def __await__(self) -> Generator[Any, None, Kit]:
        return self._connect().__await__()

    async def __aenter__(self) -> Kit:
        self._kit = await self._connect()
        return self._kit

    async def __aexit__(self, *_: object) -> None:
        if self._kit is not None:
            await self._kit.close()


def connect(
    servers: str | Sequence[str] | None = None,
    *,
    bus: Bus | None = None,
    codec: Codec | None = None,
    trust: str | Sequence[str] = (),
    audience: str = AUDIENCE,
    auth: CallSigner | None = None,
    breaker: bool = True,
    makes_streams: bool = False,
    **options: Any,
) -> _Connecting:
    """Connect to a bus: ``async with kitmsg.connect() as kit`` or ``await``.

    Args:
        servers: One NATS URL or several, or where to ask for them, as in
            ``srv://_nats._tcp.example``; by default ``NATS_URL``, else the local bus.
        bus: Use this bus instead.
        codec: How requests travel, as in `Kit`.
        trust: Files, ``env:NAME`` or buckets (``kv:NAME``) with the public keys
            that may vouch for the callers of services here.
        audience: The system that principals must be for.
        auth: Signs calls, as in `Kit`.
        breaker: As in `Kit`.
        makes_streams: As in `Kit`.
        options: As in `kitmsg.bus.nats.NatsOptions`: user, password, token, nkey, creds,
            TLS and more.

    Raises:
        Unavailable: No server answered.
        Unauthenticated: The server refused the credentials.
    """
    make_kit = functools.partial(
        Kit, codec=codec, auth=auth, breaker=breaker, makes_streams=makes_streams
    )

    async def make() -> Kit:
        if bus is not None:
            keys = trust_of(bus, trust, audience)
            return make_kit(bus, trust=keys)
        from kitmsg.discovery.pool import connect_bus

        chosen = servers or os.environ.get("NATS_URL") or DEFAULT_URL
        made = await connect_bus(chosen, **options)
        try:
            keys = trust_of(made, trust, audience)
        except BaseException:
            await made.close()
            raise
        return make_kit(made, trust=keys)

    return _Connecting(make)
