"""Streams and consumers of service classes: for subscriptions, tells and schedules."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from kitmsg.events.dead import DEAD, replay_subject
from kitmsg.events.declared import Declared, tell_stream, tick_stream
from kitmsg.events.event import facts_of
from kitmsg.events.tells import tell_subject
from kitmsg.events.ticks import tick_subject
from kitmsg.jetstream import ConsumerConfig
from kitmsg.jetstream.checks import held_time

if TYPE_CHECKING:
    from kitmsg.events.event import Event
    from kitmsg.events.subscribe import SubscribeOptions
    from kitmsg.service.declare import Service

__all__ = [
    "ACK_WAIT",
    "Consumed",
    "consumed_by",
    "declared_by",
    "durables",
    "event_consumer",
    "needs_store",
    "replicas_of",
]

ACK_WAIT: Final = 30.0
"""Seconds for which the store waits for a word about a delivery."""

_INSTANCE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Consumed:
    """A consumer that a service needs.

    Attributes:
        stream: Name of its stream.
        config: The consumer.
        name: Name of the subscription, the endpoint or the schedule.
        is_replay: Whether it gives replays of dead letters.
    """

    stream: str
    config: ConsumerConfig
    name: str
    is_replay: bool = False


def needs_store(cls: type[Service]) -> bool:
    """Tell whether a service needs streams."""
    work = cls.__work__
    stored = [s for s in work.subscriptions.values() if s.options.stored]
    return bool(stored or work.schedules or durables(cls))


def replicas_of(cls: type[Service]) -> int:
    """Return how many servers keep a service's tells, ticks and dead letters.

    As many as its `replicas` says, and no fewer than keep the events that it takes.
    """
    events = (facts_of(event).stream.replicas for event in _subscribed(cls))
    return max((cls.replicas, *events))


def durables(cls: type[Service]) -> list[str]:
    """Return the names of the endpoints that may be told."""
    return [name for name, d in cls.__declarations__.items() if d.options.durable]


def consumed_by(cls: type[Service]) -> list[Consumed]:
    """Return the consumers that all instances of a service share."""
    found: list[Consumed] = []
    for name, subscription in cls.__work__.subscriptions.items():
        options = subscription.options
        if options.stored and options.each == "service":
            config = event_consumer(f"{cls.name}-{name}", options)
            found.append(Consumed(options.stream, config, name))
    for name in durables(cls):
        config = ConsumerConfig(
            name=f"{cls.name}-{name}",
            filters=(tell_subject(f"{cls.name}.{name}"),),
            ack_wait=ACK_WAIT,
        )
        found.append(Consumed(tell_stream(cls.name).name, config, name))
    for name in cls.__work__.schedules:
        config = ConsumerConfig(
            name=f"{cls.name}-{name}",
            filters=(tick_subject(f"{cls.name}.{name}"),),
            ack_wait=ACK_WAIT,
            max_ack_pending=1,
        )
        found.append(Consumed(tick_stream(cls.name).name, config, name))
    return [*found, *(_replays(cls, each.name) for each in found)]


def _replays(cls: type[Service], name: str) -> Consumed:
    config = ConsumerConfig(
        name=f"{cls.name}-{name}",
        filters=(replay_subject(f"{cls.name}.{name}"),),
        ack_wait=ACK_WAIT,
    )
    return Consumed(DEAD, config, name, is_replay=True)


def event_consumer(
    name: str, options: SubscribeOptions, instance: str = ""
) -> ConsumerConfig:
    """Return the consumer of a subscription.

    Args:
        name: Its name.
        options: The subscription's.
        instance: The one instance that it is for; "" for all together.
    """
    begins: dict[str, Any] = {"deliver": "new"}
    if options.since == "first":
        begins = {"deliver": "all"}
    elif isinstance(options.since, datetime):
        begins = {
            "deliver": "by_start_time",
            "start_time": held_time(options.since.timestamp()),
        }
    elif isinstance(options.since, int):
        begins = {"deliver": "by_start_sequence", "start_sequence": options.since}
    return ConsumerConfig(
        name=f"{name}-{instance}" if instance else name,
        durable=not instance,
        inactive_after=_INSTANCE_SECONDS if instance else None,
        filters=options.patterns,
        ack_wait=ACK_WAIT,
        **begins,
    )


def declared_by(*classes: type[Service]) -> Declared:
    """Return the streams and consumers that services declare.

    Raises:
        FailedPrecondition: Two classes give one stream different options.
    """
    declared = Declared()
    for cls in classes:
        for event in (*_subscribed(cls), *cls.publishes):
            declared.event(event)
        if cls.__work__.schedules:
            ticks = replace(tick_stream(cls.name), replicas=replicas_of(cls))
            declared.add(ticks, cls.__name__)
        if durables(cls):
            tells = replace(tell_stream(cls.name), replicas=replicas_of(cls))
            declared.add(tells, cls.__name__)
        if needs_store(cls):
            declared.dead_letters(replicas_of(cls))
        for consumed in consumed_by(cls):
            declared.consumer(consumed.stream, consumed.config)
    return declared


def _subscribed(cls: type[Service]) -> list[type[Event]]:
    options = (each.options for each in cls.__work__.subscriptions.values())
    return [event for each in options if each.stored for event in each.events]
