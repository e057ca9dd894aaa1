"""The mailbox alone, beside what one would write without it.

Turns that never suspend, and turns that suspend once, through `kitmsg.mailbox`, through an
`asyncio.Queue` with workers, and with a task for each.  Then goodput: ten times as many
turns are offered as can run; those refused must not slow down those taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import uvloop

from benchmarks import table
from kitmsg.mailbox import Mailbox

if TYPE_CHECKING:
    import argparse

    from kitmsg.errors import Code

__all__ = ["measure", "report"]

_Work: TypeAlias = Callable[[], Awaitable[None]]
_Run: TypeAlias = Callable[[_Work, int], Awaitable[None]]

_CONCURRENCY: Final = 64
_TURN_SECONDS: Final = 0.001
_OVERLOAD: Final = 10
_OVERLOAD_SECONDS: Final = 0.5
_BURST_SECONDS: Final = 0.001  # the mailbox must not run dry between two bursts


class _Turn:
    """Work as the mailbox takes it."""

    __slots__ = ("deadline", "run")

    def __init__(self, run: _Work) -> None:
        self.deadline: float | None = None
        self.run = run

    def ended(self, code: Code) -> None:
        """Nobody is waiting for an answer."""


async def _at_once() -> None:
    """Do not suspend."""


async def _suspended() -> None:
    """Suspend once."""
    await asyncio.sleep(0)


async def _through_mailbox(work: _Work, turns: int) -> None:
    box = Mailbox(concurrency=_CONCURRENCY, size=turns)
    for _ in range(turns):
        box.offer(_Turn(work))
    await box.drain(60.0)


async def _through_queue(work: _Work, turns: int) -> None:
    queue: asyncio.Queue[_Turn] = asyncio.Queue()

    async def worker() -> None:
        while True:
            turn = await queue.get()
            await turn.run()
            queue.task_done()

    for _ in range(turns):
        queue.put_nowait(_Turn(work))
    workers = [asyncio.create_task(worker()) for _ in range(_CONCURRENCY)]
    await queue.join()
    for task in workers:
        task.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


async def _task_each(work: _Work, turns: int) -> None:
    await asyncio.gather(*(asyncio.create_task(work()) for _ in range(turns)))  # type: ignore[arg-type]


_WAYS: Final[dict[str, _Run]] = {
    "kitmsg.mailbox": _through_mailbox,
    "asyncio.Queue, workers": _through_queue,
    "a task each": _task_each,
}
_WORKS: Final[dict[str, _Work]] = {"at once": _at_once, "suspended": _suspended}


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return turns per second for each way and work, and goodput under overload."""
    rates: dict[tuple[str, str], list[float]] = {}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for _ in range(options.rounds):
            for kind, work in _WORKS.items():
                for name, way in _WAYS.items():
                    rate = runner.run(_timed(way, work, options.calls))
                    rates.setdefault((kind, name), []).append(rate)
        goodput = [runner.run(_overload(options.rounds))]
    rows = [
        {
            "work": kind,
            "way": name,
            "turns_per_second": median(each),
            "ratio": table.ratio(rates[kind, "kitmsg.mailbox"], each),
        }
        for (kind, name), each in rates.items()
    ]
    return rows + goodput


async def _timed(way: _Run, work: _Work, turns: int) -> float:
    start = perf_counter()
    await way(work, turns)
    return turns / (perf_counter() - start)


async def _overload(rounds: int) -> dict[str, Any]:
    """Return what is done per second at the edge, and at ten times that."""
    edge, over = [], []
    for _ in range(rounds):
        edge.append((await _offered(0))[0])
        over.append(await _offered(edge[-1] * _OVERLOAD))
    return {
        "work": f"{_OVERLOAD} x too much",
        "peak_per_second": median(edge),
        "goodput_per_second": median(done for done, _ in over),
        "refused_share": median(refused for _, refused in over),
        "ratio": table.ratio([done for done, _ in over], edge),
    }


async def _offered(rate: float) -> tuple[float, float]:
    """Offer `rate` turns a second, 0 for as many as have room.

    Returns:
        Turns done per second, and the share of the offered ones that were refused.
    """
    box = Mailbox(concurrency=4, size=16)
    done = offered = refused = 0

    async def work() -> None:
        nonlocal done
        await asyncio.sleep(_TURN_SECONDS)
        done += 1

    start = perf_counter()
    while (passed := perf_counter() - start) < _OVERLOAD_SECONDS:
        due = int(rate * passed) - offered if rate else 20 - box.waiting - box.running
        for _ in range(due):
            refused += not box.offer(_Turn(work))
        offered += due
        await asyncio.sleep(_BURST_SECONDS if rate else 0)
    finished = done / (perf_counter() - start)
    await box.stop()
    return finished, refused / max(1, offered)


def report(rows: list[dict[str, Any]]) -> str:
    """Return the tables of what `measure` found."""
    *speeds, goodput = rows
    head = ("mailbox", "turns", "turns/s", "kitmsg.mailbox x")
    lines = [
        (r["way"], r["work"], f"{r['turns_per_second']:,.0f}", r["ratio"])
        for r in speeds
    ]
    return (
        f"{table.draw(head, lines)}\n\n"
        f"Offered {goodput['work']}: {goodput['goodput_per_second']:,.0f} turns/s of a peak"
        f" of {goodput['peak_per_second']:,.0f}: {goodput['ratio']};"
        f" {goodput['refused_share']:.0%} refused at once.\n"
    )
