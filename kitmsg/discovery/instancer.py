"""Instancers: the instances of a service, whole sets of them, as they change.

Go kit's `sd.Instancer`.  A system of discovery is a `Source`, an async generator of whole
sets; everything that every system owes its users stands here, once: observers, the last
good set, back-off, the state, the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol, TypeAlias, runtime_checkable
from weakref import WeakSet

from kitmsg.discovery.backoff import Backoff
from kitmsg.discovery.instance import Instance, whole_set
from kitmsg.errors import KitError, Unavailable
from kitmsg.metrics.families import PROCESS, Family, gauge

__all__ = [
    "GRACE_SECONDS",
    "MAX_BYTES",
    "Instancer",
    "Observer",
    "Source",
    "State",
    "Told",
    "WatchedInstancer",
    "reason",
]

_log = logging.getLogger("kitmsg.discovery")

MAX_BYTES: Final = 8 << 20
"""Longest answer of a system that is read: thousands of instances, with room."""

GRACE_SECONDS: Final = 15.0
"""Usual time of grace; registrars announce anew within a third of their entries' time."""

_FAILED: Final = "an observer of %s failed"

Observer: TypeAlias = Callable[[tuple[Instance, ...]], Awaitable[None] | None]
"""Called with a whole set.

What it returns is awaited, if it can be, before the next call; a set that changed several
times meanwhile is told once, as it is then.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Knowledge of an instancer at one moment.

    Attributes:
        instances: The last good set, or none if there was no answer yet.
        age: Seconds since the system was lost that told the set: 0 while it answers,
            infinite if it never did.
        error: Why there may be changes that are not known; None while the system answers.
    """

    instances: tuple[Instance, ...] = ()
    age: float = math.inf
    error: KitError | None = None


@runtime_checkable
class Instancer(Protocol):
    """Knows the instances of a service, and tells when they change."""

    @property
    def name(self) -> str:
        """Address that is watched, without its secrets, for messages."""
        ...

    @property
    def state(self) -> State:
        """The set, its age and the error, now."""
        ...

    def watch(self, changed: Observer, /) -> Callable[[], None]:
        """Tell `changed` the set as soon as it is known, and again whenever it changes.

        The call returns a function that ends it.  The system is watched while anybody
        watches the instancer; needs a running event loop.  An observer that fails is
        logged and told the next set; one that is slow holds nobody up.
        """
        ...

    async def settled(self) -> State:
        """Return the state when the system answered or failed; at once if it ever did.

        Waits for ever while nobody watches.
        """
        ...

    async def close(self) -> None:
        """Tell nobody any more; end all tasks, threads and connections."""
        ...


class Source(Protocol):
    """One system of discovery: where it is and what is looked for there."""

    @property
    def name(self) -> str:
        """Address without its secrets, for messages."""
        ...

    def sets(self) -> AsyncGenerator[Sequence[Instance], None]:
        """Yield whole sets, the first one at once, for as long as the system answers.

        Equal sets may come; they say that the system is there.  Raises when it does not
        answer, hangs, refuses, or talks nonsense.  Closing it ends what it began.
        """
        ...


_MOST_SHOWN: Final = 1_000  # instancers that are metrics
_watched: WeakSet[WatchedInstancer] = WeakSet()  # those that watch now


class WatchedInstancer:
    """The instancer of a `Source`.

    Args:
        source: The system.
        invalidate_after: Seconds without the system after which the set is empty; None to
            keep the last good one for as long as it takes.
        grace: Seconds that instances stay which are missing when the system returns: it may
            have forgotten them, and their registrars need a moment to say so.
        backoff: Waits between attempts; for tests.
    """

    def __init__(
        self,
        source: Source,
        *,
        invalidate_after: float | None = None,
        grace: float = GRACE_SECONDS,
        backoff: Backoff | None = None,
    ) -> None:
        self._source = source
        self._invalidate_after = invalidate_after
        self._grace = grace
        self._backoff = backoff or Backoff()
        self._observers: dict[object, Told] = {}
        self._running: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._forget()

    def _forget(self) -> None:
        self._instances: tuple[Instance, ...] | None = None  # None: none is known
        self._error: KitError | None = None
        self._lost_at: float | None = None  # loop's time; None while the system answers
        self._since = 0.0  # loop's time of the first answer of the present watch
        self._settled = asyncio.Event()
        self._invalidation: asyncio.TimerHandle | None = None
        self._actual: tuple[Instance, ...] = ()  # as the system told it last
        self._missing: tuple[
            Instance, ...
        ] = ()  # of before a loss, until the grace ends
        self._grace_end: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        """The source's."""
        return self._source.name

    @property
    def state(self) -> State:
        """The last good set, its age and the error, now."""
        if self._instances is None:
            return State(error=self._error)
        age = 0.0 if self._lost_at is None else _now() - self._lost_at
        return State(instances=self._instances, age=age, error=self._error)

    def watch(self, changed: Observer, /) -> Callable[[], None]:
        """Tell `changed` the set as soon as it is known, and again whenever it changes."""
        key, told = object(), Told(changed, self.name)
        self._observers[key] = told
        if self._running is None:
            _watched.add(self)
            self._running = asyncio.get_running_loop().create_task(
                self._run(), name=f"watch {self.name}"
            )
        elif self._instances is not None:
            told.tell(self._instances)

        def unwatch() -> None:
            gone = self._observers.pop(key, None)
            if gone is not None:
                self._end(gone.stop())
                if not self._observers:
                    self._stop()

        return unwatch

    async def settled(self) -> State:
        """Return the state when the system answered or failed for the first time."""
        await self._settled.wait()
        return self.state

    async def close(self) -> None:
        """Tell nobody any more; returns when everything of it has ended."""
        observers, self._observers = self._observers, {}
        for told in observers.values():
            self._end(told.stop())
        self._stop()
        while self._ending:
            await asyncio.wait(self._ending)

    def _stop(self) -> None:
        """Begin the end of the watch; what was known counts no more."""
        for timer in (self._invalidation, self._grace_end):
            if timer is not None:
                timer.cancel()
        _watched.discard(self)
        running, self._running = self._running, None
        self._end(running)
        self._settled.set()  # nobody waits for what no longer comes
        self._forget()

    def _end(self, task: asyncio.Task[None] | None) -> None:
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def _run(self) -> None:
        while True:
            lasted = 0.0
            try:
                await self._follow()
            except Exception as exc:  # noqa: BLE001  whatever a system does is its error
                if self._lost_at is None and self._instances is not None:
                    lasted = _now() - self._since
                self._lost(exc)
            await asyncio.sleep(self._backoff.next(lasted))

    async def _follow(self) -> None:
        async with contextlib.aclosing(self._source.sets()) as sets:
            async for instances in sets:
                self._heard(whole_set(instances))
        raise Unavailable("it ended the watch")

    def _heard(self, instances: tuple[Instance, ...]) -> None:
        if self._instances is None or self._error is not None:
            self._found(instances)
        self._error = self._lost_at = None
        if self._invalidation is not None:
            self._invalidation.cancel()
            self._invalidation = None
        self._actual = instances
        self._tell(whole_set([*instances, *self._missing]))
        self._settled.set()

    def _found(self, instances: tuple[Instance, ...]) -> None:
        """Note that the system answers, again or for the first time."""
        self._since = _now()
        if self._error is None:
            return
        _log.info("%s answers: %s", self.name, _counted(instances))
        self._missing = self._instances or ()
        if self._grace_end is not None:
            self._grace_end.cancel()
        loop = asyncio.get_running_loop()
        self._grace_end = loop.call_later(self._grace, self._end_grace)

    def _end_grace(self) -> None:
        self._missing, self._grace_end = (), None
        if self._error is None:
            self._tell(self._actual)

    def _lost(self, exc: Exception) -> None:
        known, why = self._instances is not None, reason(exc)
        if self._error is None:
            kept = (
                f"; {_counted(self._instances or ())} of before stay" if known else ""
            )
            _log.warning("%s: %s%s", self.name, why, kept)
        self._error = Unavailable(f"{self.name}: {why}")
        self._error.__cause__ = exc
        if self._lost_at is None and known:
            self._lost_at = _now()
            if self._invalidate_after is not None:
                self._invalidation = asyncio.get_running_loop().call_later(
                    self._invalidate_after, self._invalidate
                )
        self._settled.set()

    def _invalidate(self) -> None:
        self._invalidation = None
        _log.warning(
            "%s: no instances are left, after %g s without it",
            self.name,
            self._invalidate_after,
        )
        self._missing = ()
        self._tell(())

    def _tell(self, instances: tuple[Instance, ...]) -> None:
        if instances == self._instances:
            return
        self._instances = instances
        for told in list(self._observers.values()):
            told.tell(instances)


class Told:
    """One observer: told one set at a time, and the newest when it was busy."""

    def __init__(self, changed: Observer, name: str) -> None:
        self._changed = changed
        self._name = name
        self._busy: asyncio.Task[None] | None = None
        self._next: tuple[Instance, ...] | None = None

    def tell(self, instances: tuple[Instance, ...]) -> None:
        """Tell a set, or keep it until the one before is dealt with."""
        if self._busy is not None:
            self._next = instances
            return
        answer = self._call(instances)
        if answer is not None:
            self._busy = asyncio.get_running_loop().create_task(self._await(answer))

    def stop(self) -> asyncio.Task[None] | None:
        """Tell nothing more; return the task that is still at it."""
        self._next = None
        return self._busy

    def _call(self, instances: tuple[Instance, ...]) -> Awaitable[None] | None:
        try:
            answer = self._changed(instances)
        except Exception:  # noqa: BLE001  an observer may fail as it likes
            _log.exception(_FAILED, self._name)
            return None
        return answer if inspect.isawaitable(answer) else None

    async def _await(self, answer: Awaitable[None] | None) -> None:
        try:
            while answer is not None:
                try:
                    await answer
                except Exception:  # noqa: BLE001  an observer may fail as it likes
                    _log.exception(_FAILED, self._name)
                answer = None
                while answer is None and self._next is not None:
                    instances, self._next = self._next, None
                    answer = self._call(instances)
        finally:
            self._busy = None


def _counted(instances: Sequence[Instance]) -> str:
    return f"{len(instances)} instance{'' if len(instances) == 1 else 's'}"


def reason(exc: Exception) -> str:
    """Return what a failure says, or its kind when it says nothing."""
    if isinstance(exc, KitError):
        return exc.message
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__


def _now() -> float:
    return asyncio.get_running_loop().time()


def _collect() -> Iterator[Family]:
    """Yield what is known of the systems that are watched."""
    found = gauge("kitmsg_discovery_instances", "Instances that a system has told.")
    answers = gauge("kitmsg_discovery_connected", "Whether the system answers.")
    totals: dict[str, tuple[int, bool]] = {}  # of equal addresses, one
    for instancer in islice(list(_watched), _MOST_SHOWN):
        state = instancer.state
        totals[instancer.name] = len(state.instances), state.error is None
    for name, (count, is_well) in sorted(totals.items()):
        found.add(count, source=name)
        answers.add(int(is_well), source=name)
    if totals:
        yield from (found, answers)


PROCESS.register(_collect)
