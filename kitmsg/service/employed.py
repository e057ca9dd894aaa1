"""Carries out the work of one instance beside its calls: events, tells, ticks, background.

start()  -> streams and consumers checked or made, then deliveries come
leave()  -> nothing new comes; what was not begun is given back
drain()  -> after the mailbox: what is left is given back
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from kitmsg.bus.reach import Site, at_site
from kitmsg.endpoints import Endpoint, chain
from kitmsg.errors import FailedPrecondition, NotFound, PermissionDenied
from kitmsg.events.attempt import Handling
from kitmsg.events.attempts import Attempts
from kitmsg.events.dead import DeadLetters
from kitmsg.events.declared import apply, plan, tick_stream
from kitmsg.events.envelope import Reader
from kitmsg.events.measures import Measures
from kitmsg.events.receiver import Receiver
from kitmsg.events.ticks import Tick, Ticker
from kitmsg.events.unstored import Listener
from kitmsg.jetstream import StreamConfig
from kitmsg.schema.calls import adapt
from kitmsg.service.stored import (
    ACK_WAIT,
    consumed_by,
    declared_by,
    event_consumer,
    needs_store,
    replicas_of,
)

if TYPE_CHECKING:
    from kitmsg.bus import Bus
    from kitmsg.context import Context
    from kitmsg.events.background import Tasks
    from kitmsg.events.subscribe import SubscribeOptions
    from kitmsg.jetstream import Consumer, ConsumerConfig, JetStream, Stream
    from kitmsg.mailbox import Mailbox
    from kitmsg.message import Message
    from kitmsg.metrics.provider import Provider
    from kitmsg.metrics.stats import EndpointStats
    from kitmsg.service.declare import Service
    from kitmsg.service.work import Scheduled, Subscription
    from kitmsg.transport.server import Server

__all__ = ["Employed", "Source"]

_log = logging.getLogger("kitmsg.service")

_CONCURRENCY = 16  # of tells and ticks


class Source(Protocol):
    """Source of deliveries: a `Receiver` or a `Listener`."""

    handling: Handling

    @property
    def running(self) -> int:
        """Attempts that wait or run."""
        ...

    async def start(self) -> None:
        """Begin."""
        ...

    async def leave(self) -> None:
        """Take nothing new; attempts run on."""
        ...

    def stop(self) -> None:
        """Give back what is left."""
        ...


class Employed:
    """The work of one instance.

    Args:
        bus: The bus.
        jetstream: The store behind it.
        service: Returns the instance, which may be replaced.
        instance: Unique name of the instance.
        mailbox: Where attempts run.
        tasks: Runs what goes on beside the turns.
        makes_streams: Whether streams are made and changed where that adds only; else they
            have to be there.
        metrics: Counts deliveries.
        told: Decoders and servers of the endpoints that may be told, by name.
    """

    def __init__(
        self,
        bus: Bus,
        jetstream: JetStream,
        service: Callable[[], Service],
        instance: str,
        mailbox: Mailbox,
        tasks: Tasks,
        *,
        makes_streams: bool,
        metrics: Provider,
        told: Mapping[str, tuple[Callable[[Context, Message], Any], Server]],
    ) -> None:
        self._bus = bus
        self._jetstream = jetstream
        self._service = service
        self._instance = instance
        self._mailbox = mailbox
        self._tasks = tasks
        self._makes_streams = makes_streams
        self._metrics = metrics
        self._dead = DeadLetters(jetstream)
        self._attempts = Attempts(jetstream, replicas_of(type(service())))
        self._tickers: list[Ticker] = []
        self._ticking: list[asyncio.Task[None]] = []
        # Unix seconds at which each consumer was first had, by stream and name: one that is
        # lost and made again begins there, so that nothing is passed over.
        self._had: dict[tuple[str, str], float] = {}
        cls = type(service())
        # By the name of the subscription, the endpoint or the schedule.
        self._handlings: dict[str, tuple[Handling, SubscribeOptions | None]] = {}
        for name, subscription in cls.__work__.subscriptions.items():
            handling = self._of_events(subscription)
            self._handlings[name] = handling, subscription.options
        for name, (decode, server) in told.items():
            self._handlings[name] = self._of_tells(decode, server), None
        for name, scheduled in cls.__work__.schedules.items():
            self._handlings[name] = self._of_ticks(scheduled), None
        self.sources = self._sources(cls)

    @property
    def stats(self) -> dict[str, EndpointStats]:
        """Counters of attempts, by dotted name of what was attempted."""
        found = (handling for handling, _ in self._handlings.values())
        return {handling.name: handling.stats for handling in found}

    @property
    def running(self) -> int:
        """Attempts that wait or run."""
        return sum(source.running for source in self.sources)

    async def start(self) -> None:
        """Check or make the streams and consumers, and begin.

        Raises:
            FailedPrecondition: A stream or a consumer is missing.
            KitError: The store is out of reach.
        """
        cls = type(self._service())
        if needs_store(cls):
            await self._ready_streams(cls)
        for source in self.sources:
            await source.start()
        for ticker in self._tickers:
            self._ticking.append(asyncio.create_task(ticker.run()))
        for name in cls.__work__.background:
            self._tasks.run(name, functools.partial(self._background, name))

    async def leave(self) -> None:
        """Take nothing new."""
        for ticking in self._ticking:
            ticking.cancel()
        await asyncio.gather(*(source.leave() for source in self.sources))

    async def drain(self, timeout: float) -> None:
        """Give back what the mailbox left, and wait for dead letters to be stored."""
        for source in self.sources:
            source.stop()
        await self._dead.drain(timeout)

    async def _background(self, name: str) -> None:
        await getattr(self._service(), name)()

    # -- streams

    async def _ready_streams(self, cls: type[Service]) -> None:
        changes = await plan(self._jetstream, declared_by(cls))
        if self._makes_streams:
            await apply(self._jetstream, changes)
            return
        remedy = f"`kitmsg streams plan {cls.__module__}:{cls.__name__}`"
        for change in changes:
            if change.taken_by:
                raise FailedPrecondition(
                    f"{cls.__name__} needs the stream {change.stream!r}, which cannot be"
                    f" made: {', '.join(change.lines)}; see {remedy}"
                )
            if change.kind == "create" and isinstance(change.config, StreamConfig):
                raise FailedPrecondition(
                    f"{cls.__name__} needs the stream {change.stream!r}, which is not"
                    f" there; see {remedy}, then `apply`"
                )
            if change.kind != "create":
                _log.warning(
                    "%s: the stream %s is not as it is declared: %s; see %s",
                    cls.__name__,
                    change.stream,
                    ", ".join(change.lines),
                    remedy,
                )

    async def _consumer(self, stream: str, config: ConsumerConfig) -> Consumer:
        """Return a consumer: the one that is there, or a new one."""
        found = await self._jetstream.stream(stream)
        key = stream, config.name
        try:
            consumer = await found.consumer(config.name)
        except NotFound:
            since = self._had.get(key)
            if since is not None and config.deliver == "new":
                config = replace(config, deliver="by_start_time", start_time=since)
            consumer = await self._made(found, stream, config)
        self._had.setdefault(key, self._jetstream.now())
        return consumer

    @staticmethod
    async def _made(found: Stream, stream: str, config: ConsumerConfig) -> Consumer:
        try:
            return await found.create_consumer(config)
        except PermissionDenied as error:
            raise PermissionDenied(
                f"the stream {stream!r} has no consumer {config.name!r}, and this user may"
                " not make one; `kitmsg streams apply` does"
            ) from error

    def _sources(self, cls: type[Service]) -> list[Source]:
        found: list[Source] = []
        for consumed in consumed_by(cls):
            handling, options = self._handlings[consumed.name]
            found.append(
                self._receiver(handling, consumed.stream, consumed.config, options)
            )
        for handling, options in self._handlings.values():
            if options is not None and not options.stored:
                queue = handling.name if options.each == "service" else ""
                found.append(
                    Listener(
                        handling, self._bus, options.patterns, queue, self._mailbox
                    )
                )
            elif options is not None and options.each == "instance":
                name = handling.name.replace(".", "-")
                config = event_consumer(name, options, self._instance)
                found.append(self._receiver(handling, options.stream, config, options))
        return found

    def _receiver(
        self,
        handling: Handling,
        stream: str,
        config: ConsumerConfig,
        options: SubscribeOptions | None,
    ) -> Receiver:
        return Receiver(
            handling,
            functools.partial(self._consumer, stream, config),
            self._mailbox,
            concurrency=options.concurrency if options else _CONCURRENCY,
            ack_wait=ACK_WAIT,
            batch=options.batch if options else 0,
            within=options.within if options else 1.0,
        )

    # -- the three kinds of work that is delivered

    def _of_events(self, subscription: Subscription) -> Handling:
        options = subscription.options
        reader = Reader(*options.events)

        def endpoint(service: Service) -> Endpoint[Any, Any]:
            method = getattr(service, subscription.attribute)
            call = adapt(method, subscription.shape)
            return self._around(call, service, options.middleware)

        handling = Handling(
            name=f"{self._service().name}.{subscription.name}",
            decode=reader.decode,
            endpoint=_kept(endpoint, self._service),
            dead=self._dead,
            attempts=self._attempts,
            retries=options.retries,
            timeout=options.timeout,
            in_batches=options.batch > 0,
            once=options.once,
        )
        if options.stored:
            return replace(handling, measures=self._measures(handling.name))
        return replace(handling, dead=None, attempts=None, retries=())

    def _of_tells(
        self, decode: Callable[[Context, Message], Any], server: Server
    ) -> Handling:
        return Handling(
            name=server.name,
            decode=decode,
            endpoint=lambda: server.endpoint,
            dead=self._dead,
            attempts=self._attempts,
            stats=server.stats,  # told or asked, it is one endpoint
            measures=self._measures(server.name),
        )

    def _of_ticks(self, scheduled: Scheduled) -> Handling:
        service, options = self._service().name, scheduled.options
        name = f"{service}.{scheduled.name}"
        stream = tick_stream(service).name
        ticker = Ticker(self._jetstream, stream, name, options.times)
        self._tickers.append(ticker)

        def endpoint(service: Service) -> Endpoint[Any, Any]:
            call = adapt(getattr(service, scheduled.name), scheduled.shape)
            inner = self._around(call, service, options.middleware)

            async def run(ctx: Context, tick: Tick) -> None:
                if await ticker.is_last(tick):
                    await inner(ctx, None)

            return run

        return Handling(
            name=name,
            decode=lambda ctx, message: msgspec.json.decode(message.data, type=Tick),
            endpoint=_kept(endpoint, self._service),
            dead=self._dead,
            attempts=self._attempts,
            retries=options.retries,
            timeout=options.timeout,
            measures=self._measures(name),
        )

    def _measures(self, name: str) -> Measures | None:
        off = self._service().off
        return (
            None
            if "metrics" in off
            else Measures(self._metrics, name, self._jetstream.now)
        )

    def _around(
        self, call: Any, service: Service, middleware: Sequence[Any]
    ) -> Endpoint[Any, Any]:
        with at_site(Site(bus=self._bus, result=None, raises=(), is_stream=False)):
            return chain(*service.middleware, *middleware)(call)


def _kept(
    make: Callable[[Any], Endpoint[Any, Any]], service: Callable[[], Any]
) -> Callable[[], Endpoint[Any, Any]]:
    """Return a function that makes an endpoint once for each instance it is asked for."""
    made: list[Any] = [None, None]

    def endpoint() -> Endpoint[Any, Any]:
        present = service()
        if made[0] is not present:
            made[:] = present, make(present)
        found: Endpoint[Any, Any] = made[1]
        return found

    return endpoint
