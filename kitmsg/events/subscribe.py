"""The decorator ``@subscribe``: a method that is given events, and its options."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import (
    Any,
    Final,
    Literal,
    Protocol,
    TypeAlias,
    TypedDict,
    TypeVar,
    Unpack,
    overload,
)

from kitmsg.context import Context
from kitmsg.endpoints import Middleware
from kitmsg.events.event import Event, facts_of
from kitmsg.events.retries import RETRIES, check_retries
from kitmsg.events.stream import PREFIX

__all__ = ["Since", "SubscribeOptions", "subscribe", "subscribe_options_of"]

_MARK: Final = "__kit_subscribe__"
_NAME: Final = re.compile(r"[A-Za-z0-9_]{1,64}")
_MOST_AT_ONCE: Final = 10_000

Since: TypeAlias = Literal["new", "first"] | datetime | int
"""Where a new subscription begins: with what is published from now on, with the first event
that is stored, at a time, or at a sequence."""

S = TypeVar("S")
E = TypeVar("E", bound=Event)
F = TypeVar("F", bound=Event)
G = TypeVar("G", bound=Event)
Done: TypeAlias = Awaitable[None] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscribeOptions:
    """Options of ``@subscribe(...)``; fields as its arguments."""

    events: tuple[type[Event], ...]
    name: str = ""
    each: Literal["service", "instance"] = "service"
    stored: bool = True
    where: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 0
    within: float = 1.0
    since: Since = "new"
    retries: tuple[float, ...] = RETRIES
    concurrency: int = 16
    timeout: float = 300.0
    once: bool = False
    middleware: tuple[Middleware, ...] = ()

    @property
    def stream(self) -> str:
        """The stream that its events are stored in."""
        return facts_of(self.events[0]).stream.name

    @property
    def patterns(self) -> tuple[str, ...]:
        """The subjects of its events, filtered by `where`."""
        return tuple(
            facts_of(cls).template.pattern(PREFIX, self.where) for cls in self.events
        )


class _OneByOne(Protocol[E]):
    @overload
    def __call__(
        self, method: Callable[[S, Context, E], Done], /
    ) -> Callable[[S, Context, E], Done]: ...
    @overload
    def __call__(self, method: Callable[[S, E], Done], /) -> Callable[[S, E], Done]: ...


class _InBatches(Protocol[E]):
    @overload
    def __call__(
        self, method: Callable[[S, Context, list[E]], Done], /
    ) -> Callable[[S, Context, list[E]], Done]: ...
    @overload
    def __call__(
        self, method: Callable[[S, list[E]], Done], /
    ) -> Callable[[S, list[E]], Done]: ...


class _Options(TypedDict, total=False):
    name: str
    each: Literal["service", "instance"]
    stored: bool
    where: Mapping[str, Any]
    since: Since
    retries: Sequence[float]
    concurrency: int
    timeout: float
    once: bool
    middleware: Sequence[Middleware]


@overload
def subscribe(event: type[E], /, **options: Unpack[_Options]) -> _OneByOne[E]: ...
@overload
def subscribe(
    event: type[E], other: type[F], /, **options: Unpack[_Options]
) -> _OneByOne[E | F]: ...
@overload
def subscribe(
    event: type[E], other: type[F], third: type[G], /, **options: Unpack[_Options]
) -> _OneByOne[E | F | G]: ...
@overload
def subscribe(
    event: type[E], /, *, batch: int, within: float = 1.0, **options: Unpack[_Options]
) -> _InBatches[E]: ...
@overload
def subscribe(
    event: type[Event],
    /,
    *events: type[Event],
    batch: int,
    within: float = 1.0,
    **options: Unpack[_Options],
) -> _InBatches[Any]: ...
@overload
def subscribe(
    event: type[Event], /, *events: type[Event], **options: Unpack[_Options]
) -> _OneByOne[Any]: ...
def subscribe(event: Any, /, *events: Any, **options: Any) -> Any:
    """Give a method of a `Service` the events of one class, or of several.

    The event is acknowledged when the method returns.  When it raises, or its worker dies,
    the event is delivered again after the next of `retries`; after the last one, or at
    once for `Reject`, it becomes a dead letter.  So a method may see an event twice.

    Args:
        event: The class.
        events: More classes, stored in the same stream.
        name: Name of the subscription; the method's own by default.  Its place in the log
            is kept under it, whatever happens to instances.
        each: Whether each event goes to the ``service``, on any of its instances, or to
            each ``instance``.
        stored: False for events while they happen, at most once: those that are published
            while nobody listens are not seen.
        where: Values of fields that are in the subject; other events are not delivered.
        batch: Most events that are given at once, as a list; they are acknowledged, or
            delivered again, together.
        within: Longest wait for a batch to fill, in seconds.
        since: Where a subscription that is new begins; see `Since`.
        retries: Seconds before each further attempt.
        concurrency: Events, or batches, that an instance works on at once.
        timeout: Longest attempt, in seconds; the event stays out of others' hands for as
            long as the attempt takes.
        once: Whether an event is passed over whose attempt is known to have succeeded, and
            whether events that the method publishes have ids made of its own, so that the
            stream knows them again.
        middleware: Around the method, inside the service's.
        options: The arguments from `name` on.

    Raises:
        TypeError: An option is not known, or a class is no event with a subject.
        ValueError: An option has a value that it cannot have, or the classes are stored in
            several streams.
    """
    chosen = _chosen((event, *events), options)

    def mark(method: Any) -> Any:
        if not callable(method):
            raise TypeError(f"@subscribe goes on a method, not on {method!r}")
        setattr(method, _MARK, chosen)
        return method

    return mark


def subscribe_options_of(member: Any) -> SubscribeOptions | None:
    """Return the options of a member that subscribes; None for any other."""
    found = getattr(member, _MARK, None)
    return found if isinstance(found, SubscribeOptions) else None


def _chosen(
    events: tuple[type[Event], ...], options: Mapping[str, Any]
) -> SubscribeOptions:
    for name in options:
        if name == "events" or name not in SubscribeOptions.__dataclass_fields__:
            known = ", ".join(list(SubscribeOptions.__dataclass_fields__)[1:])
            raise TypeError(f"@subscribe has no option {name!r}; it has {known}")
    given = dict(options)
    given["retries"] = check_retries(given.get("retries", RETRIES), "@subscribe")
    given["middleware"] = tuple(given.get("middleware", ()))
    given["where"] = dict(given.get("where") or {})
    made = SubscribeOptions(events=events, **given)
    _check_events(made)
    _check(made)
    return made


def _check_events(options: SubscribeOptions) -> None:
    streams = {facts_of(cls).stream.name: cls.__name__ for cls in options.events}
    if options.stored and len(streams) > 1:
        where = ", ".join(f"{cls} in {name!r}" for name, cls in streams.items())
        raise ValueError(
            f"@subscribe: its events are stored in several streams ({where}); write one"
            " method for each"
        )
    _ = options.patterns  # refuses a `where` that does not fit


def _check(options: SubscribeOptions) -> None:
    if options.name and not _NAME.fullmatch(options.name):
        raise ValueError(
            f"@subscribe(name={options.name!r}): up to 64 letters, digits and _"
        )
    if options.each not in ("service", "instance"):
        raise ValueError(f"@subscribe(each={options.each!r}): 'service' or 'instance'")
    for name in ("within", "timeout"):
        value = getattr(options, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            raise ValueError(f"@subscribe({name}={value!r}): positive seconds")
    for name, least in (("batch", 0), ("concurrency", 1)):
        value = getattr(options, name)
        if type(value) is not int or not least <= value <= _MOST_AT_ONCE:
            raise ValueError(
                f"@subscribe({name}={value!r}): a whole number from {least} to"
                f" {_MOST_AT_ONCE}"
            )
    if not options.stored and (options.once or options.since != "new"):
        raise ValueError(
            "@subscribe(stored=False): once= and since= need events that are stored"
        )
