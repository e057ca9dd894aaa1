"""The work of a service class beside its endpoints: subscriptions, schedules, background.

Read when the class is defined, with what its bases have.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kitmsg.discovery.events import AnnouncedEvent, Role, event_text
from kitmsg.events.background import is_background
from kitmsg.events.event import Event, facts_of, schema_hash, schema_of
from kitmsg.events.handlers import handler_shape
from kitmsg.events.schedule import ScheduleOptions, schedule_of
from kitmsg.events.subscribe import SubscribeOptions, subscribe_options_of
from kitmsg.schema.calls import Shape
from kitmsg.wire import Meta, event_schema_name

if TYPE_CHECKING:
    from kitmsg.service.declare import Service

__all__ = [
    "Scheduled",
    "Subscription",
    "Work",
    "event_schemas",
    "events_by",
    "told_by",
    "work_of",
]


@dataclass(frozen=True, slots=True)
class Subscription:
    """A method that is given events.

    Attributes:
        name: Name of the subscription, unique in its service.
        attribute: Name of the method.
        options: What the decorator was told.
        shape: How the method is called.
    """

    name: str
    attribute: str
    options: SubscribeOptions
    shape: Shape


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A method that runs at times; its name is that of the schedule.

    Attributes:
        name: Name of the method, unique in its service.
        options: What the decorator was told.
        shape: How the method is called.
    """

    name: str
    options: ScheduleOptions
    shape: Shape


@dataclass(frozen=True, slots=True)
class Work:
    """The work of a class beside its endpoints, each kind by name."""

    subscriptions: Mapping[str, Subscription] = field(default_factory=dict)
    schedules: Mapping[str, Scheduled] = field(default_factory=dict)
    background: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.subscriptions or self.schedules or self.background)


def told_by(cls: type[Service]) -> dict[str, str]:
    """Return what INFO says of a class's work: its events and schedules, by key."""
    work = cls.__work__
    heard = {
        facts_of(event).name
        for subscription in work.subscriptions.values()
        for event in subscription.options.events
    }
    found = {
        Meta.PUBLISHES: sorted(facts_of(event).name for event in cls.publishes),
        Meta.SUBSCRIBES: sorted(heard),
        Meta.SCHEDULES: sorted(work.schedules),
    }
    told = {key: ",".join(names) for key, names in found.items() if names}
    events = event_text(_announced(*each) for each in events_by(cls))
    return {**told, Meta.EVENTS: events} if events else told


def events_by(cls: type[Service]) -> dict[tuple[type[Event], Role], None]:
    """Return the event classes that a class publishes or subscribes to, each with its role."""
    subscriptions = cls.__work__.subscriptions.values()
    found: dict[tuple[type[Event], Role], None] = {}
    for event in cls.publishes:
        found[event, "publish"] = None
    for subscription in subscriptions:
        for event in subscription.options.events:
            found[event, "subscribe"] = None
    return found


def event_schemas(cls: type[Service]) -> dict[str, dict[str, Any]]:
    """Return the JSON Schemas of a class's events with their hashes, by their names."""
    return {
        event_schema_name(facts_of(event).name): {
            **schema_of(event),
            "hash": schema_hash(event),
        }
        for event, _ in events_by(cls)
    }


def _announced(event: type[Event], role: Role) -> AnnouncedEvent:
    facts = facts_of(event)
    return AnnouncedEvent(
        name=facts.name,
        version=facts.version,
        subject=facts.template.text,
        stream=facts.stream.name,
        schema=schema_hash(event),
        role=role,
    )


def work_of(cls: type, endpoints: Collection[str]) -> Work:
    """Return the work of a class and its bases.

    A method that replaces one of a base without a decorator of its own has that of the
    base; ``name = None`` does without.

    Args:
        cls: The class.
        endpoints: Names of its endpoints.

    Raises:
        TypeError: A method cannot be called with what it subscribes to, or two have one
            name.
    """
    subscriptions: dict[str, Subscription] = {}
    schedules: dict[str, Scheduled] = {}
    background: list[str] = []
    for attribute, own, marked in _members(cls):
        where = f"{cls.__name__}.{attribute}"
        subscribed = subscribe_options_of(marked)
        if subscribed is not None:
            name = subscribed.name or attribute
            if name in subscriptions:
                raise TypeError(f"{cls.__name__}: two subscriptions are named {name!r}")
            shape = handler_shape(
                own, where, subscribed.events, in_batches=subscribed.batch > 0
            )
            subscriptions[name] = Subscription(name, attribute, subscribed, shape)
        scheduled = schedule_of(marked)
        if scheduled is not None:
            shape = handler_shape(own, where)
            schedules[attribute] = Scheduled(attribute, scheduled, shape)
        if is_background(marked):
            handler_shape(own, where)
            background.append(attribute)
    for name in subscriptions:
        if name in endpoints or name in schedules:
            raise TypeError(
                f"{cls.__name__}: a subscription and another method have the name {name!r};"
                " give @subscribe(..., name=) another"
            )
    return Work(subscriptions, schedules, tuple(background))


def _members(cls: type) -> Iterator[tuple[str, Any, Any]]:
    """Give the members that are marked: name, own member, and the one with the mark."""
    names = dict.fromkeys(name for base in reversed(cls.__mro__) for name in vars(base))
    for name in names:
        own = inspect.getattr_static(cls, name, None)
        marked = next(
            (
                vars(base)[name]
                for base in cls.__mro__
                if name in vars(base) and _is_marked(vars(base)[name])
            ),
            None,
        )
        if own is not None and marked is not None:
            yield name, own, marked


def _is_marked(member: Any) -> bool:
    return (
        subscribe_options_of(member) is not None
        or schedule_of(member) is not None
        or is_background(member)
    )
