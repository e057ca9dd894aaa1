"""Carries out the work of one instance beside its calls: events, tells, ticks, background.

start()  -> streams checked or made, consumers found, then deliveries come
leave()  -> nothing new comes; what was not begun is given back
drain()  -> after the mailbox: background cancelled, the rest given back
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from kitmsg.bus.reach import Site, at_site
from kitmsg.endpoints import Endpoint, chain
from kitmsg.errors import FailedPrecondition
from kitmsg.events.attempt import Handling
from kitmsg.events.attempts import Attempts
from kitmsg.events.background import Tasks
from kitmsg.events.dead import DEAD, DeadLetters, replay_subject
from kitmsg.events.declared import Declared, apply, plan, tell_stream, tick_stream
from kitmsg.events.envelope import Reader
from kitmsg.events.receiver import Receiver
from kitmsg.events.ticks import Tick, Ticker, tick_subject
from kitmsg.events.unstored import Listener
from kitmsg.jetstream import ConsumerConfig
from kitmsg.schema.calls import adapt

if TYPE_CHECKING:
    from kitmsg.bus import Bus
    from kitmsg.context import Context
    from kitmsg.events.subscribe import SubscribeOptions
    from kitmsg.jetstream import Consumer, JetStream
    from kitmsg.mailbox import Mailbox
    from kitmsg.message import Message
    from kitmsg.service.declare import Service
    from kitmsg.service.work import Scheduled, Subscription

__all__ = ["Employed", "declared_by", "needs_store"]

_log = logging.getLogger("kitmsg.service")

_ACK_WAIT: Final = 30.0
_INSTANCE_SECONDS: Final = 60.0


def needs_store(cls: type[Service]) -> bool:
    """Tell whether a service needs streams."""
    work = cls.__work__
    stored = [s for s in work.subscriptions.values() if s.options.stored]
    return bool(stored or work.schedules or durables(cls))


def durables(cls: type[Service]) -> list[str]:
    """Return the names of the endpoints that may be told."""
    return [name for name, d in cls.__declarations__.items() if d.options.durable]


def declared_by(*classes: type[Service]) -> Declared:
    """Return the streams that services declare.

    Raises:
        FailedPrecondition: Two classes give one stream different options.
    """
    declared = Declared()
    for cls in classes:
        for subscription in cls.__work__.subscriptions.values():
            if subscription.options.stored:
                for event in subscription.options.events:
                    declared.event(event)
        if cls.__work__.schedules:
            declared.add(tick_stream(cls.name), cls.__name__)
        if durables(cls):
            declared.add(tell_stream(cls.name), cls.__name__)
        if needs_store(cls):
            declared.dead_letters()
    return declared


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
        told: Decoders of the endpoints that may be told, by name.
        endpoint: Returns such an endpoint, by name.
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
        told: Mapping[str, Callable[[Context, Message], Any]],
        endpoint: Callable[[str], Endpoint[Any, Any]],
    ) -> None:
        self._bus = bus
        self._jetstream = jetstream
        self._service = service
        self._instance = instance
        self._mailbox = mailbox
        self._makes_streams = makes_streams
        self._told = told
        self._told_endpoint = endpoint
        self._dead = DeadLetters(jetstream)
        self._attempts = Attempts(jetstream)
        self.receivers: dict[str, Receiver | Listener] = {}
        self._undo: list[Callable[[], None]] = []
        self._tickers: list[asyncio.Task[None]] = []
        self._tasks = tasks

    async def start(self) -> None:
        """Check or make the streams, find the consumers, begin.

        Raises:
            FailedPrecondition: A stream is missing, or is not as it is declared.
            KitError: The store is out of reach.
        """
        cls = type(self._service())
        if needs_store(cls):
            await self._ready_streams(cls)
        for subscription in cls.__work__.subscriptions.values():
            self._subscribe(subscription)
        for name in self._told:
            self._listen_to_tells(name)
        self._start_schedules()
        for receiver in self.receivers.values():
            await receiver.start()
        for name in cls.__work__.background:
            self._tasks.run(name, functools.partial(self._background, name))

    async def leave(self) -> None:
        """Take nothing new."""
        for undo in self._undo:
            undo()
        self._undo.clear()
        for ticker in self._tickers:
            ticker.cancel()
        await asyncio.gather(*(r.leave() for r in self.receivers.values()))

    async def drain(self, timeout: float) -> None:
        """End what goes on beside the mailbox, which has stopped."""
        for receiver in self.receivers.values():
            receiver.stop()
        await self._dead.drain(timeout)

    async def _background(self, name: str) -> None:
        await getattr(self._service(), name)()

    async def _ready_streams(self, cls: type[Service]) -> None:
        changes = await plan(self._jetstream, declared_by(cls))
        if not changes:
            return
        if self._makes_streams:
            await apply(self._jetstream, changes)
            return
        missing = [c.stream for c in changes if c.kind == "create"]
        if missing:
            raise FailedPrecondition(
                f"{cls.__name__} needs the stream {missing[0]!r}, which is not there; see"
                f" `kitmsg streams plan {cls.__module__}:{cls.__name__}`, then `apply`"
            )
        for change in changes:
            _log.warning(
                "%s: the stream %s is not as it is declared: %s; see `kitmsg streams plan`",
                cls.__name__,
                change.stream,
                ", ".join(change.lines),
            )

    # -- events

    def _subscribe(self, subscription: Subscription) -> None:
        options = subscription.options
        name = f"{self._service().name}.{subscription.name}"
        reader = Reader(*options.events)
        endpoint = functools.partial(self._endpoint, subscription)
        handling = Handling(
            name=name,
            decode=lambda ctx, delivery: reader.read(delivery.headers, delivery.data),
            endpoint=_kept(endpoint, self._service),
            dead=self._dead,
            attempts=self._attempts,
            retries=options.retries,
            timeout=options.timeout,
            in_batches=options.batch > 0,
            once=options.once,
        )
        if not options.stored:
            queue = name if options.each == "service" else ""
            self.receivers[name] = Listener(
                replace(handling, dead=None, attempts=None, retries=()),
                self._bus,
                options.patterns,
                queue,
                self._mailbox,
            )
            return
        config = self._consumer_config(subscription)
        self._receive(handling, options.stream, config, options)
        if options.each == "service":
            self._receive_replays(handling)

    def _consumer_config(self, subscription: Subscription) -> ConsumerConfig:
        options = subscription.options
        service = self._service().name
        name = f"{service}-{subscription.name}"
        is_own = options.each == "instance"
        begins: dict[str, Any] = {"deliver": "new"}
        if options.since == "first":
            begins = {"deliver": "all"}
        elif isinstance(options.since, datetime):
            when = options.since.timestamp()
            begins = {"deliver": "by_start_time", "start_time": when}
        elif isinstance(options.since, int):
            begins = {"deliver": "by_start_sequence", "start_sequence": options.since}
        return ConsumerConfig(
            name=f"{name}-{self._instance}" if is_own else name,
            durable=not is_own,
            inactive_after=_INSTANCE_SECONDS if is_own else None,
            filters=options.patterns,
            ack_wait=_ACK_WAIT,
            **begins,
        )

    def _receive(
        self,
        handling: Handling,
        stream: str,
        config: ConsumerConfig,
        options: SubscribeOptions | None = None,
    ) -> None:
        self.receivers[config.name] = Receiver(
            handling,
            functools.partial(self._consumer, stream, config),
            self._mailbox,
            concurrency=options.concurrency if options else 16,
            ack_wait=_ACK_WAIT,
            batch=options.batch if options else 0,
            within=options.within if options else 1.0,
        )

    def _receive_replays(self, handling: Handling) -> None:
        config = ConsumerConfig(
            name=handling.name.replace(".", "-"),
            filters=(replay_subject(handling.name),),
            ack_wait=_ACK_WAIT,
        )
        self.receivers[f"replay {handling.name}"] = Receiver(
            handling,
            functools.partial(self._consumer, DEAD, config),
            self._mailbox,
            concurrency=1,
            ack_wait=_ACK_WAIT,
        )

    async def _consumer(self, stream: str, config: ConsumerConfig) -> Consumer:
        """Return a consumer: the one that is there, brought up to date, or a new one."""
        return await (await self._jetstream.stream(stream)).update_consumer(config)

    def _endpoint(
        self, subscription: Subscription, service: Service
    ) -> Endpoint[Any, Any]:
        method = getattr(service, subscription.attribute)
        middleware = (*service.middleware, *subscription.options.middleware)
        return self._chained(adapt(method, subscription.shape), middleware)

    def _chained(self, endpoint: Any, middleware: Sequence[Any]) -> Endpoint[Any, Any]:
        with at_site(Site(bus=self._bus, result=None, raises=(), is_stream=False)):
            return chain(*middleware)(endpoint)

    # -- tells

    def _listen_to_tells(self, name: str) -> None:
        service = self._service().name
        dotted = f"{service}.{name}"
        decode = self._told[name]
        handling = Handling(
            name=dotted,
            decode=lambda ctx, delivery: decode(ctx, delivery.message),
            endpoint=lambda: self._told_endpoint(name),
            dead=self._dead,
            attempts=self._attempts,
        )
        config = ConsumerConfig(
            name=f"{service}-{name}", filters=(f"tell.{dotted}",), ack_wait=_ACK_WAIT
        )
        self._receive(handling, tell_stream(service).name, config)
        self._receive_replays(handling)

    # -- schedules

    def _start_schedules(self) -> None:
        service = self._service()
        stream = tick_stream(service.name).name
        for scheduled in type(service).__work__.schedules.values():
            self._start_schedule(scheduled, service.name, stream)

    def _start_schedule(self, scheduled: Scheduled, service: str, stream: str) -> None:
        dotted = f"{service}.{scheduled.name}"
        ticker = Ticker(self._jetstream, stream, dotted, scheduled.options.times)

        def endpoint(service: Service) -> Endpoint[Any, Any]:
            method = getattr(service, scheduled.name)
            middleware = (*service.middleware, *scheduled.options.middleware)
            inner = self._chained(adapt(method, scheduled.shape), middleware)

            async def run(ctx: Context, tick: Tick) -> None:
                if await ticker.is_last(tick):
                    await inner(ctx, None)

            return run

        handling = Handling(
            name=dotted,
            decode=lambda ctx, delivery: msgspec.json.decode(delivery.data, type=Tick),
            endpoint=_kept(endpoint, self._service),
            dead=self._dead,
            attempts=self._attempts,
            retries=scheduled.options.retries,
            timeout=scheduled.options.timeout,
        )
        config = ConsumerConfig(
            name=f"{service}-{scheduled.name}",
            filters=(tick_subject(dotted),),
            ack_wait=_ACK_WAIT,
            max_ack_pending=1,
        )
        self._receive(handling, stream, config)
        self._tickers.append(asyncio.create_task(ticker.run()))


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
