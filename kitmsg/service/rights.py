"""Rights on the bus: the subjects that a service, a gateway, a client or the CLI needs.

Computed from services, in the terms of NATS permissions.  No I/O here; `kitmsg acl`
prints them.  Answers go to inboxes by the right to respond to what was received (NATS:
``allow_responses``), so nobody may publish to anybody's inbox.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from kitmsg.endpoints import parts_of
from kitmsg.events.attempts import ATTEMPTS
from kitmsg.events.dead import dead_subject
from kitmsg.events.event import facts_of
from kitmsg.events.tells import tell_subject
from kitmsg.events.ticks import tick_subject
from kitmsg.jetstream import KEEPS
from kitmsg.service.stored import consumed_by, declared_by, durables
from kitmsg.wire import (
    DOWN,
    JS_API,
    SRV,
    UP,
    cancel_subject,
    direct_subject,
    kv_stream,
    kv_subject,
    level_subject,
    schema_subject,
    schemas_subject,
)

if TYPE_CHECKING:
    from kitmsg.endpoints import Middleware
    from kitmsg.service.declare import Service

__all__ = [
    "RESPONSE_SECONDS",
    "OpenEvent",
    "Rights",
    "Served",
    "bucket_rights",
    "cli_rights",
    "client_rights",
    "event_rights",
    "gateway_rights",
    "relay_rights",
    "served",
    "service_rights",
    "together",
]

RESPONSE_SECONDS: Final = 60.0
"""Seconds for which a message may be answered; a stream's heartbeats renew them."""

_AFTER: Final = 30.0  # for an answer after the longest turn, a drain included
_GATEWAYS: Final = "gateway.*"  # as log levels are set
_LEVEL: Final = f"{JS_API}.INFO"  # to know what the server can do
_VERBS: Final = ("PING", "INFO", "STATS")


@dataclass(frozen=True, kw_only=True)
class Rights:
    """The least rights of one user.

    Attributes:
        name: Of the user.
        publish: Subjects that it may publish to, sorted.
        subscribe: Subjects that it may subscribe to, sorted; one with a queue group has
            that behind a space, and may be subscribed to in that group only.
        seconds: For which it may answer what it received.
    """

    name: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    seconds: float = RESPONSE_SECONDS

    @property
    def inbox(self) -> str:
        """Its inbox prefix, which nobody else may listen to."""
        return f"_INBOX_{self.name}"


@dataclass(frozen=True, kw_only=True)
class Served:
    """A service, as permissions see it.

    Attributes:
        name: Its name.
        subjects: Of its endpoints; with ``*`` or ``>`` where they are not known.
        queue: Queue group; "" for none.
        longest: Seconds of its longest turn, where one has a timeout.
        buckets: Key-value buckets that it reads and writes.
        publishes: Subjects of the events that it says it publishes.
        hears: Subjects of events that it hears as they happen, with the queue group.
        streams: Streams that it reads or asks about.
        rereads: Streams in which it looks for what an earlier attempt published.
        consumers: Consumers that it pulls from, as stream and name.
        told: Subjects of what it may be told, now and later.
    """

    name: str
    subjects: tuple[str, ...]
    queue: str = "q"
    longest: float = 0.0
    buckets: tuple[str, ...] = ()
    publishes: tuple[str, ...] = ()
    hears: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    rereads: tuple[str, ...] = ()
    consumers: tuple[tuple[str, str], ...] = ()
    told: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class OpenEvent:
    """An event that clients of a gateway may publish or read.

    Attributes:
        pattern: The subjects of the event.
        stream: The stream that stores it.
        is_published: Whether they may publish it.
        is_read: Whether they may read it.
    """

    pattern: str
    stream: str
    is_published: bool
    is_read: bool


def served(cls: type[Service]) -> Served:
    """Return the service that a class declares."""
    declarations = list(cls.__declarations__.values())
    around = [*cls.middleware]
    for declaration in declarations:
        around += declaration.options.middleware
    consumed = consumed_by(cls)
    buckets = {*_kept(around), *([ATTEMPTS] if consumed else [])}
    return Served(
        name=cls.name,
        subjects=tuple(declaration.subject for declaration in declarations),
        queue=cls.queue,
        longest=max([0.0, *(d.options.timeout or 0.0 for d in declarations)]),
        buckets=tuple(sorted(buckets)),
        publishes=tuple(facts_of(event).pattern for event in cls.publishes),
        hears=tuple(_heard(cls)),
        streams=tuple(declared_by(cls).streams),
        rereads=tuple(_reread(cls)),
        consumers=tuple((each.stream, each.config.name) for each in consumed),
        told=tuple(
            subject
            for name in durables(cls)
            for subject in (tell_subject(f"{cls.name}.{name}"), f"later.{cls.name}.*")
        ),
    )


def service_rights(
    service: Served, calls: Iterable[Served] = (), *, keys: Sequence[str] = ()
) -> Rights:
    """Return the rights of a service: to be it, and to call others.

    Args:
        service: The service.
        calls: The services that it calls.
        keys: Key-value buckets with the keys that it trusts.
    """
    calls = list(calls)
    name = service.name
    subscribe = {
        *(f"{subject} {service.queue}".strip() for subject in service.subjects),
        *(cancel_subject(subject) for subject in service.subjects),
        *_followed(calls),
        direct_subject(name, "*", ">"),
        level_subject(name),
        f"{schemas_subject(name)} q",
        f"{schema_subject(name, '*')} q",
        *(
            f"{SRV}.{verb}{end}"
            for verb in _VERBS
            for end in ("", f".{name}", f".{name}.*")
        ),
    }
    subscribe |= set(service.hears)
    publish = {f"{UP}.{name}", f"{DOWN}.{name}", *_keys(keys), *_calls(calls)}
    publish |= _stores(service)
    user = _user(name, publish, subscribe, service.longest)
    return bucket_rights(user, service.buckets)


def bucket_rights(user: Rights, buckets: Iterable[str]) -> Rights:
    """Return the rights of a user that reads and writes key-value buckets, too.

    It may neither make a bucket nor a consumer: by a stream's subjects it would hear all
    that anybody says, and by a consumer's it would say anything to anybody.
    """
    more: set[str] = set()
    for bucket in buckets:
        stream = kv_stream(bucket)
        more |= {f"{JS_API}.STREAM.INFO.{stream}", f"{JS_API}.STREAM.MSG.GET.{stream}"}
        more.add(f"$KV.{bucket}.>")
    return replace(user, publish=tuple(sorted({*user.publish, *more})))


def event_rights(user: Rights, events: Iterable[OpenEvent]) -> Rights:
    """Return the rights of a gateway where events are open, too.

    It hears those that are read, and reads their streams, which may hold other events as
    well.  It may make no consumer; see `bucket_rights`.
    """
    publish, subscribe = set(user.publish), set(user.subscribe)
    for event in events:
        stream = event.stream
        publish |= {
            f"{JS_API}.STREAM.INFO.{stream}",
            f"{JS_API}.STREAM.MSG.GET.{stream}",
        }
        if event.is_published:
            publish.add(event.pattern)
        if event.is_read:
            publish |= {f"{JS_API}.DIRECT.GET.{stream}", _LEVEL}
            subscribe.add(event.pattern)
    return replace(
        user, publish=tuple(sorted(publish)), subscribe=tuple(sorted(subscribe))
    )


def client_rights(name: str, calls: Iterable[Served]) -> Rights:
    """Return the rights of a program that calls services, and is none."""
    calls = list(calls)
    return _user(name, _calls(calls), _followed(calls))


def gateway_rights(name: str, services: Iterable[Served]) -> Rights:
    """Return the rights of a gateway: to find services, read their schemas, and call them."""
    services = list(services)
    heard = {*_presence(), level_subject(_GATEWAYS)}
    return _user(name, {*_calls(services), *_finds(services)}, heard)


def cli_rights(name: str, services: Iterable[Served]) -> Rights:
    """Return the rights of the command line.

    Those of a gateway, to read counters, and to set log levels for a while.
    """
    services = list(services)
    stats = {f"{SRV}.STATS", f"{SRV}.STATS.>"}
    levels = {level_subject(each.name) for each in services} | {
        level_subject(_GATEWAYS)
    }
    publish = {*_calls(services), *_finds(services), *stats, *levels}
    return _user(name, publish, _presence())


def relay_rights(name: str, services: Iterable[Served]) -> Rights:
    """Return the rights of `kitmsg outbox relay`: to publish what the services declare."""
    published = {subject for each in services for subject in each.publishes}
    return _user(name, {*published, f"{JS_API}.STREAM.NAMES"}, set())


def together(name: str, several: Iterable[Rights]) -> Rights:
    """Return the rights of services that one worker serves on one connection."""
    several = list(several)
    mine = {each.inbox for each in several}
    heard = {s for each in several for s in each.subscribe if _start(s) not in mine}
    said = {subject for each in several for subject in each.publish}
    return Rights(
        name=name,
        publish=tuple(sorted(said)),
        subscribe=tuple(sorted({*heard, f"_INBOX_{name}.>"})),
        seconds=max(each.seconds for each in several),
    )


def _user(
    name: str, publish: set[str], subscribe: set[str], longest: float = 0.0
) -> Rights:
    seconds = max(RESPONSE_SECONDS, longest + _AFTER)
    heard = {*subscribe, f"_INBOX_{name}.>"}
    return Rights(
        name=name,
        publish=tuple(sorted(publish)),
        subscribe=tuple(sorted(heard)),
        seconds=seconds,
    )


def _start(subject: str) -> str:
    return subject.partition(".")[0]


def _calls(services: Iterable[Served]) -> set[str]:
    """Return where a caller of services publishes.

    Asks, cancels, INFO for codec and hint; for routes INFO, and a PING of one instance.
    """
    found: set[str] = set()
    for each in services:
        name = each.name
        found |= {f"{SRV}.INFO", f"{SRV}.INFO.{name}", f"{SRV}.INFO.{name}.*"}
        found.add(f"{SRV}.PING.{name}.*")
        for subject in each.subjects:
            found |= {subject, direct_subject(name, "*", subject)}
            found.add(cancel_subject(subject))
        if each.told:
            found |= {*each.told, _LEVEL}
    return found


def _stores(service: Served) -> set[str]:
    """Return where a service publishes to read its streams, and to store what it says.

    It may make neither a stream nor a consumer, nor delete from one: `kitmsg streams
    apply` does that.
    """
    found = {*service.publishes, *([_LEVEL] if service.streams else [])}
    for stream in service.streams:
        found |= {f"{JS_API}.STREAM.INFO.{stream}", f"{JS_API}.STREAM.MSG.GET.{stream}"}
    found |= {f"{JS_API}.DIRECT.GET.{stream}" for stream in service.rereads}
    for stream, name in service.consumers:
        found |= {
            f"{JS_API}.CONSUMER.INFO.{stream}.{name}",
            f"{JS_API}.CONSUMER.MSG.NEXT.{stream}.{name}",
            f"$JS.ACK.{stream}.{name}.>",
        }
    if service.consumers:
        name = service.name
        found |= {dead_subject(f"{name}.*"), tick_subject(f"{name}.*")}
    return found


def _reread(cls: type[Service]) -> set[str]:
    """Return the streams of what a class publishes, where it has ``once=`` subscriptions."""
    if not any(each.options.once for each in cls.__work__.subscriptions.values()):
        return set()
    return {facts_of(event).stream.name for event in cls.publishes}


def _heard(cls: type[Service]) -> list[str]:
    """Return the events that a class hears as they happen, with the queue group."""
    found: list[str] = []
    for name, subscription in cls.__work__.subscriptions.items():
        options = subscription.options
        if not options.stored:
            queue = f"{cls.name}.{name}" if options.each == "service" else ""
            found += [f"{pattern} {queue}".strip() for pattern in options.patterns]
    return found


def _followed(services: Iterable[Served]) -> set[str]:
    """Return where a caller hears that instances of services come and go, for routes."""
    return {f"{notice}.{each.name}" for each in services for notice in (UP, DOWN)}


def _finds(services: Iterable[Served]) -> set[str]:
    """Return where a follower of discovery publishes: who is there, and their schemas."""
    found = {f"{SRV}.{verb}{end}" for verb in ("PING", "INFO") for end in ("", ".>")}
    for each in services:
        found |= {schemas_subject(each.name), schema_subject(each.name, "*")}
    return found


def _presence() -> set[str]:
    return {f"{UP}.*", f"{DOWN}.*"}


def _kept(around: Iterable[Middleware]) -> set[str]:
    """Return the buckets that middlewares keep something in."""
    found = {getattr(part, KEEPS, "") for each in around for part in parts_of(each)}
    return found - {""}


def _keys(buckets: Iterable[str]) -> set[str]:
    return {kv_subject(bucket, "*") for bucket in buckets}
