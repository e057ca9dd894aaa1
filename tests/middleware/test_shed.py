"""Load shedding: nothing is refused until the loop is late, then all that would wait."""

from __future__ import annotations

import asyncio
import math
import time

import pytest

from kitmsg.context import Context
from kitmsg.errors import ResourceExhausted
from kitmsg.metrics.resilience import RESILIENCE
from kitmsg.middleware import shed
from kitmsg.middleware.shed import Capacity


def test_the_bound_is_littles_law_over_the_best_tenths() -> None:
    """Fifty calls in a tenth of a second, twenty milliseconds each: ten at once."""
    capacity = Capacity()
    for number in range(50):
        capacity.done(0.020, number * 0.002)
    assert capacity.bound(0.05) == math.inf  # that tenth is not over
    assert capacity.bound(0.15) == 10
    for number in range(10):
        capacity.done(0.5, 0.2 + number * 0.01)  # slow ones do not raise it
    assert capacity.bound(0.35) == 10
    assert capacity.bound(10.05) == 50  # the best tenth is ten seconds ago
    assert capacity.bound(30.0) == math.inf


async def test_a_process_that_keeps_up_refuses_nothing() -> None:
    """A thousand calls that wait for something else are no overload."""

    async def slow(_ctx: Context, request: str) -> str:
        await asyncio.sleep(0.5)
        return request

    call = shed()(slow)
    for _ in range(3):
        results = await asyncio.gather(*(call(Context(), "hi") for _ in range(1000)))
        assert len(results) == 1000


class Busy:
    """Needs a millisecond of the processor for each call, after a moment."""

    def __init__(self) -> None:
        self.done = 0

    async def __call__(self, _ctx: Context, request: str) -> str:
        """Work."""
        await asyncio.sleep(0)
        end = time.thread_time() + 0.001
        while time.thread_time() < end:
            pass
        self.done += 1
        return request


async def _overload() -> tuple[int, int, list[ResourceExhausted]]:
    """Offer three times what the processor can do; return done, refused, errors."""
    peer, errors = Busy(), []
    call = shed(lag=0.02)(peer)
    ctx = Context(endpoint="a.b")

    async def one() -> None:
        try:
            await call(ctx, "hi")
        except ResourceExhausted as error:
            errors.append(error)

    for _ in range(200):
        await one()  # at its own pace: a time of one call is learnt
    loop = asyncio.get_running_loop()
    begun, offered = loop.time(), 0
    async with asyncio.TaskGroup() as tasks:
        while offered < 3000:
            due = min(3000, int((loop.time() - begun) * 3000))
            for _ in range(due - offered):
                tasks.create_task(one())
            offered = due
            await asyncio.sleep(0.001)
    return peer.done - 200, len(errors), errors


def test_an_overloaded_process_refuses_and_says_when_to_come_back() -> None:
    """Some calls are refused, with the part's name, a time and a count; others are done."""
    before = RESILIENCE.count("shed", "a.b")
    done, refused, errors = asyncio.run(_overload())
    assert done + refused == 3000
    assert done > 100
    assert refused > 100
    assert str(errors[0]).startswith("shed: ")
    assert errors[0].retry_after == 1.0
    assert errors[0].refused == "a.b"
    assert RESILIENCE.count("shed", "a.b") == before + refused


async def test_no_timer_stays_behind() -> None:
    """Without calls the loop has nothing to do."""

    async def quick(_ctx: Context, request: str) -> str:
        await asyncio.sleep(0.1)
        return request

    call = shed()(quick)
    await call(Context(), "hi")
    await asyncio.sleep(0.1)
    loop = asyncio.get_running_loop()
    pending = [timer for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
    assert pending == []


def test_wrong_options_are_told_at_once() -> None:
    """No lateness is no overload."""
    with pytest.raises(ValueError, match="lag must be positive, not 0"):
        shed(lag=0)
