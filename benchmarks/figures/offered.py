"""Asks at a steady rate, whatever comes back, and how each of them ended."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final, TypeAlias, TypeVar

import uvloop

from kitmsg.errors import Disconnected, KitError

__all__ = ["Ask", "Offered", "Outcome", "endings", "offer", "run"]

Ask: TypeAlias = Callable[[int], Awaitable[Any]]
"""Takes the number of the ask."""

T = TypeVar("T")

_TICK_SECONDS: Final = 0.002


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one ask ended.

    Attributes:
        number: Of the ask.
        sent: When, by `perf_counter`.
        took: Until it ended, in seconds.
        error: Name of the error's class; "" for a result.
        is_unsent: Whether the error says that the ask never left.
    """

    number: int
    sent: float
    took: float
    error: str = ""
    is_unsent: bool = False

    @property
    def ended(self) -> float:
        """When it ended, by `perf_counter`."""
        return self.sent + self.took


@dataclass
class Offered:
    """Asks on their way, and those that ended.

    Attributes:
        outcomes: In the order in which they ended.
        count: Asks sent.
    """

    ask: Ask
    outcomes: list[Outcome] = field(default_factory=list)
    count: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def send(self) -> None:
        """Send one more."""
        task = asyncio.create_task(self._one(self.count))
        self.count += 1
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settle(self) -> list[Outcome]:
        """Wait until all have ended; returns the outcomes."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        return self.outcomes

    async def _one(self, number: int) -> None:
        start = perf_counter()
        error, is_unsent = "", False
        try:
            await self.ask(number)
        except KitError as exc:
            error = type(exc).__name__
            is_unsent = isinstance(exc, Disconnected) and not exc.sent
        took = perf_counter() - start
        self.outcomes.append(Outcome(number, start, took, error, is_unsent))


async def offer(ask: Ask, per_second: float, until: asyncio.Event) -> list[Outcome]:
    """Ask `per_second` times a second until told to end; returns all outcomes."""
    offered = Offered(ask)
    start = perf_counter()
    while not until.is_set():
        due = int((perf_counter() - start) * per_second) - offered.count
        for _ in range(due):
            offered.send()
        await asyncio.sleep(_TICK_SECONDS)
    return await offered.settle()


def endings(outcomes: list[Outcome]) -> str:
    """Return how many ended how: ``1,000 results, 3 Unavailable``."""
    counts = Counter(outcome.error or "results" for outcome in outcomes)
    return ", ".join(f"{count:,} {name}" for name, count in counts.most_common())


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)
