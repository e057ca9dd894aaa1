"""So many calls at once."""

from __future__ import annotations

import asyncio

import pytest

from kitmsg.context import Context
from kitmsg.errors import DeadlineExceeded, ResourceExhausted
from kitmsg.middleware import bulkhead


class Slow:
    """An endpoint that takes a second; knows how many calls it had at once."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.order: list[str] = []

    async def __call__(self, _ctx: Context, request: str) -> str:
        """Answer after a second."""
        self.running += 1
        self.most = max(self.most, self.running)
        self.order.append(request)
        try:
            await asyncio.sleep(1)
        finally:
            self.running -= 1
        return request


async def test_caps_what_runs_and_queues_the_rest_in_order() -> None:
    """No more than `concurrency` run; those in the queue run in order of arrival."""
    slow = Slow()
    call = bulkhead(2, queue=6)(slow)
    answers = await asyncio.gather(*(call(Context(), name) for name in "abcdefgh"))
    assert answers == list("abcdefgh")
    assert slow.most == 2
    assert slow.order == list("abcdefgh")
    assert asyncio.get_running_loop().time() == pytest.approx(4.0)
    await asyncio.gather(*(call(Context(), name) for name in "abcdefgh"))


async def test_refuses_at_once_when_the_queue_is_full() -> None:
    """What finds neither a place nor room to wait is refused without delay."""
    call = bulkhead(1, queue=1)(Slow())
    tasks = [asyncio.ensure_future(call(Context(), name)) for name in "ab"]
    await asyncio.sleep(0)
    with pytest.raises(
        ResourceExhausted, match="bulkhead: 1 calls of this endpoint run and 1 wait"
    ):
        await call(Context(), "c")
    assert asyncio.get_running_loop().time() == 0.0
    assert await asyncio.gather(*tasks) == ["a", "b"]


async def test_a_deadline_ends_the_waiting() -> None:
    """A call whose time passes in the queue fails then and never runs."""
    slow = Slow()
    call = bulkhead(1, queue=5)(slow)
    first = asyncio.ensure_future(call(Context(), "a"))
    await asyncio.sleep(0)
    with pytest.raises(DeadlineExceeded, match="no place came free"):
        await call(Context(deadline=0.5), "b")
    assert asyncio.get_running_loop().time() == pytest.approx(0.5)
    await first
    assert slow.order == ["a"]


async def test_failures_and_cancelled_calls_leave_their_place() -> None:
    """Whatever ends a call, running or waiting, the next one gets in."""
    slow = Slow()
    call = bulkhead(1, queue=2)(slow)
    tasks = [asyncio.ensure_future(call(Context(), name)) for name in "abc"]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[1].cancel()
    assert await tasks[2] == "c"
    assert await call(Context(), "d") == "d"
    assert slow.running == 0


async def test_without_a_queue_nothing_waits() -> None:
    """By default the call either runs now or not at all."""
    call = bulkhead(1)(Slow())
    first = asyncio.ensure_future(call(Context(), "a"))
    await asyncio.sleep(0)
    with pytest.raises(ResourceExhausted):
        await call(Context(), "b")
    await first
    assert await call(Context(), "c") == "c"


async def test_endpoints_have_places_of_their_own() -> None:
    """A slow endpoint does not hold the places of another."""
    walls = bulkhead(1)
    first, second = walls(Slow()), walls(Slow())
    await asyncio.gather(first(Context(), "a"), second(Context(), "b"))
    assert asyncio.get_running_loop().time() == pytest.approx(1.0)


def test_refuses_wrong_options() -> None:
    """Wrong numbers are told at once."""
    with pytest.raises(ValueError, match="concurrency must be at least 1, not 0"):
        bulkhead(0)
    with pytest.raises(ValueError, match="queue must be at least 0, not -1"):
        bulkhead(1, queue=-1)
