"""Members of a round are called in turn, spread over it."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from typing import TYPE_CHECKING

from kitmsg.transport.wheel import SLOTS, Wheel

if TYPE_CHECKING:
    from kitmsg import Kit

SECONDS = 6.4


async def test_each_is_called_once_a_round(kit: Kit) -> None:
    """And no more than its share of them in one moment."""
    loop = asyncio.get_running_loop()
    calls: list[tuple[float, int]] = []
    wheel: Wheel[int] = Wheel(SECONDS, lambda n: calls.append((loop.time(), n)))
    for n in range(SLOTS * 3):
        wheel.add(n)
    await asyncio.sleep(SECONDS * 5 + 0.01)
    assert set(Counter(n for _, n in calls).values()) <= {4, 5, 6}
    assert max(Counter(when for when, _ in calls).values()) == 3


async def test_one_alone_costs_one_timer_a_round(kit: Kit) -> None:
    """Its moment comes again after a round, to the millisecond."""
    loop = asyncio.get_running_loop()
    times: list[float] = []
    wheel: Wheel[str] = Wheel(SECONDS, lambda _: times.append(loop.time()))
    wheel.add("one")
    await asyncio.sleep(SECONDS * 4.5)
    gaps = [round(b - a, 3) for a, b in itertools.pairwise(times)]
    assert gaps == [SECONDS] * (len(times) - 1)
    assert len(times) >= 3


async def test_one_that_is_removed_is_not_called(kit: Kit) -> None:
    """Not even in the moment that removes it; and nothing runs on without members."""
    called: list[int] = []

    def call(n: int) -> None:
        called.append(n)
        for other in range(SLOTS * 2):
            wheel.remove(other)

    wheel: Wheel[int] = Wheel(SECONDS, call)
    for n in range(SLOTS * 2):
        wheel.add(n)
    await asyncio.sleep(SECONDS * 3)
    assert len(called) == 1
    assert len(wheel) == 0
    assert wheel._timer is None
    wheel.add(1)
    await asyncio.sleep(SECONDS * 2)
    assert called[-1] == 1
