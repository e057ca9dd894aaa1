"""Many asks at once, many one after the other, and far too many."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Final

import msgspec

import kitmsg
from benchmarks.figures.figure import Figure
from benchmarks.figures.offered import Offered, Outcome, endings, offer, run
from benchmarks.figures.services import Crowd, Narrow
from benchmarks.peers.kit import Calculator
from benchmarks.worker import Worker
from kitmsg.bus.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["many_at_once", "one_after_the_other", "overload"]

_ROOT: Final = Path(__file__).parents[2]
_SERVICES: Final = str(Path(__file__).with_name("services.py"))
_CALCULATOR: Final = str(Path(__file__).parents[1] / "peers" / "kit.py")
_MANY: Final = 10_000
_LONG: Final = 100_000
_GROWTH_BYTES: Final = 1e6
_TOO_MUCH: Final = 10
_DEADLINE: Final = 2.0
_GOODPUT: Final = 0.85
_REFUSALS: Final = frozenset(
    {"", "ResourceExhausted", "Unavailable", "NoResponders", "Disconnected"}
)


def many_at_once(is_quick: bool) -> Iterator[Figure]:
    """Ask a service that answers nobody before all are there; then a usual one."""
    with EmbeddedServer() as bus:
        with Worker(bus.url, f"{_SERVICES}:Crowd"):
            outcomes = run(_crowd(bus.url, _MANY))
        results = [o for o in outcomes if not o.error]
        yield Figure(
            f"{_MANY:,} asks in flight from one client, held until all are there",
            "all answered",
            f"{endings(outcomes)}, in {max(o.took for o in outcomes):.2f} s",
            len(results),
            len(results) == _MANY,
        )
        with Worker(bus.url, f"{_CALCULATOR}:Calculator"):
            outcomes = run(_burst(bus.url, _MANY))
        answered = [o for o in outcomes if o.error in _REFUSALS]
        yield Figure(
            f"{_MANY:,} asks at once to a service in its default configuration",
            "all answered or refused",
            f"{endings(outcomes)}, in {max(o.took for o in outcomes):.2f} s",
            len(answered),
            len(answered) == _MANY,
        )


async def _crowd(url: str, number: int) -> list[Outcome]:
    async with kitmsg.connect(url) as kit:
        crowd = kit.client(Crowd, timeout=30.0)
        offered = Offered(lambda _: crowd.gather(number))
        for _ in range(number):
            offered.send()
        return await offered.settle()


async def _burst(url: str, number: int) -> list[Outcome]:
    async with kitmsg.connect(url) as kit:
        calculator = kit.client(Calculator)
        offered = Offered(lambda n: calculator.sum(n, 1))
        for _ in range(number):
            offered.send()
        return await offered.settle()


def one_after_the_other(is_quick: bool) -> Iterator[Figure]:
    """Ask very often, and see whether either side holds more at the end."""
    number = _LONG // 10 if is_quick else _LONG
    with (
        EmbeddedServer() as bus,
        Worker(bus.url, f"{_CALCULATOR}:Calculator") as worker,
    ):
        # The client is a fresh process: room left over from before would hide a leak.
        command = [sys.executable, "-m", "benchmarks.figures.sequence", bus.url]
        told = subprocess.check_output(
            [*command, str(number), str(worker.children[0])], cwd=_ROOT
        )
        sizes: list[tuple[int, int]] = msgspec.json.decode(told)
    for side, (early, late) in zip(("client", "worker"), sizes, strict=True):
        yield Figure(
            f"{number:,} asks one after the other: {side}'s memory, 10 % to 100 %",
            "no growth (< 1 MB)",
            f"{early / 1e6:.2f} to {late / 1e6:.2f} MB: {(late - early) / 1e6:+.2f} MB",
            (late - early) / 1e6,
            late - early < _GROWTH_BYTES,
        )


def overload(is_quick: bool) -> Iterator[Figure]:
    """Find what a narrow service can do, then offer ten times that."""
    seconds = 4.0 if is_quick else 20.0
    with EmbeddedServer() as bus, Worker(bus.url, f"{_SERVICES}:Narrow"):
        peak, outcomes = run(_overload(bus.url, seconds))
    slowest = max(o.took for o in outcomes)
    answered = [o for o in outcomes if o.error in _REFUSALS and o.took <= _DEADLINE]
    goodput = sum(not o.error for o in outcomes) / seconds
    offered = f"{_TOO_MUCH} x peak for {seconds:g} s"
    yield Figure(
        f"{offered}, {len(outcomes):,} asks",
        f"all answered in {_DEADLINE:g} s",
        f"{endings(outcomes)}; slowest {slowest:.2f} s",
        len(outcomes) - len(answered),
        len(answered) == len(outcomes),
    )
    yield Figure(
        f"{offered}: goodput / peak",
        f">= {_GOODPUT}",
        f"{goodput / peak:.2f} ({goodput:.0f}/s of {peak:.0f}/s)",
        goodput / peak,
        goodput / peak >= _GOODPUT,
    )


async def _overload(url: str, seconds: float) -> tuple[float, list[Outcome]]:
    async with kitmsg.connect(url) as kit:
        narrow = kit.client(Narrow, timeout=_DEADLINE)
        peak = await _peak(narrow, seconds / 4)
        ended = asyncio.Event()
        asyncio.get_running_loop().call_later(seconds, ended.set)
        return peak, await offer(lambda _: narrow.work(), peak * _TOO_MUCH, ended)


async def _peak(narrow: Narrow, seconds: float) -> float:
    """Return what is done per second by as many callers as there are turns, and more."""
    done = 0
    start = perf_counter()

    async def caller() -> None:
        nonlocal done
        while perf_counter() - start < seconds:
            await narrow.work()
            done += 1

    await asyncio.gather(*(caller() for _ in range(2 * Narrow.concurrency)))
    return done / (perf_counter() - start)
