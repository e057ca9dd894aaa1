"""The event of the benchmark, its stream, and the meter of those that come."""

from __future__ import annotations

import asyncio
import contextlib
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Final

import msgspec

from kitmsg.errors import NotFound
from kitmsg.jetstream import Outgoing, StreamConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.jetstream import JetStream

__all__ = ["Meter", "Order", "ended", "filled", "order", "stored_in"]

_STAMP: Final = 1_000_000


class Order(msgspec.Struct):
    """The fields of the event."""

    order_id: str
    customer: str
    cents: int
    express: bool
    items: list[str]


def order(number: int) -> Order:
    """Return an order."""
    id_ = f"A{_STAMP + number}"
    return Order(id_, "ann@example.org", 950 + number % 100, number % 2 == 0, ["tea"])


async def stored_in(jetstream: JetStream, stream: str, subject: str) -> None:
    """Make a stream anew: nothing is in it, and nobody has read."""
    with contextlib.suppress(NotFound):
        await jetstream.delete_stream(stream)
    await jetstream.create_stream(StreamConfig(name=stream, subjects=(subject,)))


async def filled(
    jetstream: JetStream, calls: int, outgoing: Callable[[Order], Outgoing]
) -> None:
    """Store orders, as they are made by `outgoing`."""
    await jetstream.publish_many(outgoing(order(n)) for n in range(calls))


class Meter:
    """Counts what is handled: from the first one to the last, which `wait` returns after.

    Args:
        calls: How many there are.
    """

    def __init__(self, calls: int) -> None:
        self._calls = calls
        self._count = 0
        self._begun = self._ended = 0.0
        self._cpu = 0.0
        self._over = asyncio.Event()

    def note(self) -> int:
        """Count one; returns how many there were."""
        self._count += 1
        if self._count == 1:
            self._begun, self._cpu = perf_counter(), process_time()
        elif self._count == self._calls:
            self._ended, self._cpu = perf_counter(), process_time() - self._cpu
            self._over.set()
        return self._count

    async def wait(self) -> dict[str, float]:
        """Return what was measured, when all are handled."""
        async with asyncio.timeout(60):
            await self._over.wait()
        count = self._calls - 1
        rate = count / (self._ended - self._begun)
        return {
            "calls": count,
            "rate": rate,
            "p50": 0.0,
            "p99": 0.0,
            "cpu": self._cpu / count,
        }


def ended(times: list[float], cpu: float) -> dict[str, float]:
    """Return what was measured one by one.

    Args:
        times: Seconds that each took.
        cpu: Seconds of CPU that all took.
    """
    ordered = sorted(times)
    return {
        "calls": len(ordered),
        "rate": len(ordered) / sum(ordered),
        "p50": ordered[len(ordered) // 2],
        "p99": ordered[len(ordered) * 99 // 100],
        "cpu": cpu / len(ordered),
    }
