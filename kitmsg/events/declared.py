"""Declared streams: those that a set of classes needs, and the plan to have them.

Each is compared with what the store has, as a migration is: what only adds is done by
`apply`, what takes something away is left until it is allowed.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from kitmsg.errors import AlreadyExists, FailedPrecondition, NotFound, PermissionDenied
from kitmsg.events.attempts import ATTEMPTS
from kitmsg.events.dead import DEAD, dead_stream
from kitmsg.events.event import Event, facts_of
from kitmsg.jetstream import Bucket, ConsumerConfig, StreamConfig
from kitmsg.message import matches
from kitmsg.wire import kv_stream

if TYPE_CHECKING:
    from kitmsg.jetstream import JetStream, StreamInfo

__all__ = [
    "Change",
    "Declared",
    "apply",
    "plan",
    "tell_stream",
    "tick_stream",
]

_COMPARED: Final = (
    "retention",
    "storage",
    "replicas",
    "max_messages",
    "max_bytes",
    "max_age",
    "max_per_subject",
    "discard",
    "duplicate_window",
    "compression",
    "allow_schedules",
)
_BOUNDS: Final = ("max_messages", "max_bytes", "max_age", "max_per_subject")
_CONSUMER_COMPARED: Final = ("filters", "ack_wait", "max_ack_pending")
_MOST_TICKS: Final = 10_000
_FIXED: Final = ("storage", "retention")


def tell_stream(service: str) -> StreamConfig:
    """Return the declaration of the stream of what a service is told."""
    return StreamConfig(
        name=f"tell-{service}",
        subjects=(f"tell.{service}.*", f"later.{service}.*"),
        retention="workqueue",
        allow_schedules=True,
    )


def tick_stream(service: str) -> StreamConfig:
    """Return the declaration of the stream of a service's schedules: the times of each."""
    # One that is worked on must not go, or the next one would begin beside it.
    return StreamConfig(
        name=f"tick-{service}",
        subjects=(f"tick.{service}.*",),
        max_per_subject=_MOST_TICKS,
    )


class Declared:
    """Streams that are declared, by name.

    Attributes:
        streams: The declarations.
        consumers: Consumers, by stream and name.
    """

    def __init__(self) -> None:
        self.consumers: dict[tuple[str, str], ConsumerConfig] = {}
        self.streams: dict[str, StreamConfig] = {}
        self._by: dict[str, str] = {}  # the class that declared each, for messages

    def event(self, cls: type[Event]) -> None:
        """Add the stream of an event class, or its subjects to one that is declared.

        Raises:
            FailedPrecondition: Another class gives the stream other options.
        """
        facts = facts_of(cls)
        stream = facts.stream
        config = StreamConfig(
            name=stream.name,
            subjects=(facts.pattern,),
            storage=stream.storage,
            replicas=stream.replicas,
            max_age=stream.max_age,
            max_bytes=stream.max_bytes,
            max_messages=stream.max_events,
            discard="new" if stream.full == "refuse" else "old",
            compression="s2" if stream.compression else "none",
            duplicate_window=min(stream.dedupe_window, stream.max_age or math.inf),
        )
        before = self.streams.get(stream.name)
        if before is None:
            self.add(config, cls.__name__)
            return
        if replace(before, subjects=()) != replace(config, subjects=()):
            raise FailedPrecondition(
                f"{cls.__name__} and {self._by[stream.name]} give the stream"
                f" {stream.name!r} different options; write one Stream(...) and use it in"
                " both"
            )
        subjects = _joined(before.subjects, config.subjects)
        self.streams[stream.name] = replace(before, subjects=subjects)

    def add(self, config: StreamConfig, by: str) -> None:
        """Add a stream of the toolkit's own."""
        self.streams.setdefault(config.name, config)
        self._by.setdefault(config.name, by)

    def consumer(self, stream: str, config: ConsumerConfig) -> None:
        """Add a consumer of a declared stream."""
        self.consumers[stream, config.name] = config

    def dead_letters(self, replicas: int = 1) -> None:
        """Add the stream of dead letters, kept by so many servers at least."""
        self.add(dead_stream(), DEAD)
        before = self.streams[DEAD]
        most = max(before.replicas, replicas)
        self.streams[DEAD] = replace(before, replicas=most)


@dataclass(frozen=True, slots=True)
class Change:
    """A difference between a declared stream and the one that the store has.

    Attributes:
        stream: Its name.
        consumer: Name of the consumer of it that is different; "" for the stream itself.
        kind: ``create``, ``update``, ``destroy`` for an update that may drop messages, or
            ``impossible`` for one that no store can make.
        lines: The differences, for people: ``max_age: none -> 3600``.
        config: As it has to be.
        taken_by: Name of another stream that stores its subjects, so that it cannot be made.
    """

    stream: str
    kind: Literal["create", "update", "destroy", "impossible"]
    lines: tuple[str, ...]
    config: StreamConfig | ConsumerConfig | Bucket
    consumer: str = ""
    taken_by: str = ""


async def plan(jetstream: JetStream, declared: Declared) -> list[Change]:
    """Return what has to change so that the store has the declared streams and consumers.

    Subjects that a stream has beside the declared ones stay: others declare them.  Streams
    come first.
    """
    found = [await _compared(jetstream, c) for c in declared.streams.values()]
    if declared.consumers:
        dead = declared.streams.get(DEAD)
        found.append(await _compared_bucket(jetstream, dead.replicas if dead else 1))
    for (stream, _), config in declared.consumers.items():
        found.append(await _compared_consumer(jetstream, stream, config))
    return [change for change in found if change is not None]


async def apply(
    jetstream: JetStream, changes: Iterable[Change], *, allow: bool = False
) -> list[Change]:
    """Make changes; returns those that were made.

    Args:
        jetstream: The store.
        changes: From `plan`.
        allow: Whether messages may be dropped.

    Raises:
        FailedPrecondition: A change cannot be made, or drops messages and may not; none
            was made.
    """
    wanted = list(changes)
    for change in wanted:
        _check(change, allow=allow)
    for change in wanted:
        if isinstance(change.config, Bucket):
            await jetstream.key_value(ATTEMPTS, change.config)
        elif isinstance(change.config, ConsumerConfig):
            stream = await jetstream.stream(change.stream)
            await stream.update_consumer(change.config)
        elif change.kind == "create":
            await _create(jetstream, change.config, allow=allow)
        else:
            await jetstream.update_stream(change.config)
    return wanted


async def _create(jetstream: JetStream, config: StreamConfig, *, allow: bool) -> None:
    """Make a stream, or change the one that somebody else has made meanwhile."""
    try:
        await jetstream.create_stream(config)
    except AlreadyExists:
        change = await _compared(jetstream, config)
        if change is not None:
            await apply(jetstream, [change], allow=allow)


def _check(change: Change, *, allow: bool) -> None:
    """Return if a change can be made, and may be."""
    if change.taken_by:
        raise FailedPrecondition(
            f"the stream {change.stream!r} cannot be made ({', '.join(change.lines)});"
            f" write Stream(name={change.taken_by!r}) in the class, or take the subject"
            " out of that stream"
        )
    if change.kind == "impossible":
        raise FailedPrecondition(
            f"the stream {change.stream!r} cannot be changed ({', '.join(change.lines)});"
            " declare another name, or move what is in it by hand"
        )
    if change.kind == "destroy" and not allow:
        raise FailedPrecondition(
            f"changing the stream {change.stream!r} may drop messages"
            f" ({', '.join(change.lines)}); give --allow if that is meant"
        )


async def _compared_bucket(jetstream: JetStream, replicas: int) -> Change | None:
    name = kv_stream(ATTEMPTS)
    try:
        has = (await (await jetstream.stream(name)).info()).config
    except NotFound:
        lines = (f"bucket: {ATTEMPTS}",)
        return Change(name, "create", lines, Bucket(replicas=replicas))
    if has.replicas >= replicas:  # other services may declare more
        return None
    lines = (f"replicas: {has.replicas} -> {replicas}",)
    return Change(name, "update", lines, replace(has, replicas=replicas))


async def _compared_consumer(
    jetstream: JetStream, stream: str, wanted: ConsumerConfig
) -> Change | None:
    try:
        consumer = await (await jetstream.stream(stream)).consumer(wanted.name)
    except NotFound:
        lines = tuple(f"filter: {subject}" for subject in wanted.filters)
        return Change(stream, "create", lines, wanted, wanted.name)
    has = (await consumer.info()).config
    changed = [
        name
        for name in _CONSUMER_COMPARED
        if getattr(has, name) != getattr(wanted, name)
    ]
    if not changed:
        return None
    told = tuple(
        f"{name}: {_spell(getattr(has, name))} -> {_spell(getattr(wanted, name))}"
        for name in changed
    )
    # Where it began stays: it cannot be changed, and it goes on from where it is.
    kept = replace(has, **{name: getattr(wanted, name) for name in changed})
    return Change(stream, "update", told, kept, wanted.name)


async def _compared(jetstream: JetStream, wanted: StreamConfig) -> Change | None:
    try:
        stream = await jetstream.stream(wanted.name)
    except NotFound:
        return await _new(jetstream, wanted)
    has = (await stream.info()).config
    if wanted.name == DEAD:  # other services may declare more
        wanted = replace(wanted, replicas=max(wanted.replicas, has.replicas))
    changed = [
        name for name in _COMPARED if getattr(has, name) != getattr(wanted, name)
    ]
    missing = _joined(has.subjects, wanted.subjects)[len(has.subjects) :]
    if not changed and not missing:
        return None
    told = [f"subject: + {subject}" for subject in missing]
    told += [
        f"{name}: {_spell(getattr(has, name))} -> {_spell(getattr(wanted, name))}"
        for name in changed
    ]
    # What the store has beside stays as it is: its description, its metadata, its reads.
    kept = replace(
        has,
        subjects=(*has.subjects, *missing),
        **{name: getattr(wanted, name) for name in changed},
    )
    return Change(wanted.name, _kind(has, wanted, changed), tuple(told), kept)


async def _new(jetstream: JetStream, wanted: StreamConfig) -> Change | None:
    """Return the change that makes a stream, unless another one stores its subjects.

    Where somebody else has made it meanwhile, it is compared with that.
    """
    for subject in wanted.subjects:
        others: list[StreamInfo] = []
        with contextlib.suppress(PermissionDenied):  # then the store says it
            others = await jetstream.streams(subject)
        if others:
            other = others[0].config.name
            if other == wanted.name:
                return await _compared(jetstream, wanted)
            line = f"subject: {subject} is in the stream {other!r} already"
            return Change(wanted.name, "impossible", (line,), wanted, taken_by=other)
    lines = tuple(f"subject: {subject}" for subject in wanted.subjects)
    return Change(wanted.name, "create", lines, wanted)


def _kind(has: Any, wanted: Any, changed: Sequence[str]) -> Any:
    if any(name in _FIXED for name in changed):
        return "impossible"
    for name in changed:
        old, new = getattr(has, name), getattr(wanted, name)
        if name in _BOUNDS and new is not None and (old is None or new < old):
            return "destroy"
    return "update"


def _joined(known: Sequence[str], more: Sequence[str]) -> tuple[str, ...]:
    """Return subjects with those added that none of them covers."""
    found = list(known)
    for subject in more:
        if not any(subject == each or matches(each, subject) for each in found):
            found.append(subject)
    return tuple(found)


def _spell(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)
