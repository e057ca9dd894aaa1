"""Trials: what a load generator does, and measures, each time that it is asked."""

from __future__ import annotations

import asyncio
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from benchmarks.peers import Call

__all__ = ["Calls", "Trial", "repeat"]


class Trial(Protocol):
    """Something that can be measured again and again."""

    async def prepare(self, in_flight: int, calls: int) -> None:
        """Do what comes before and is not measured."""
        ...

    async def measure(self, in_flight: int, calls: int) -> dict[str, float]:
        """Return what `repeat` does."""
        ...


class Calls:
    """A trial of one call, many times."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def prepare(self, in_flight: int, calls: int) -> None:
        """Do nothing."""

    async def measure(self, in_flight: int, calls: int) -> dict[str, float]:
        """Call `calls` times, `in_flight` at once."""
        return await repeat(self._call, in_flight, calls)


async def repeat(
    call: Callable[[], Awaitable[object]], in_flight: int, calls: int
) -> dict[str, float]:
    """Call `calls` times, `in_flight` at once.

    Returns:
        The calls made; their rate per second; p50 and p99 in seconds; this process's CPU
        per call, in seconds.
    """
    times: list[float] = []

    async def one_after_the_other() -> None:
        for _ in range(calls // in_flight):
            start = perf_counter()
            await call()
            times.append(perf_counter() - start)

    cpu, begin = process_time(), perf_counter()
    await asyncio.gather(*(one_after_the_other() for _ in range(in_flight)))
    seconds = perf_counter() - begin
    cpu = process_time() - cpu
    times.sort()
    return {
        "calls": len(times),
        "rate": len(times) / seconds,
        "p50": times[len(times) // 2],
        "p99": times[len(times) * 99 // 100],
        "cpu": cpu / len(times),
    }
