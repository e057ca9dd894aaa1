"""Who waits for an item or for room."""

from __future__ import annotations

import asyncio

import pytest

from kitmsg.transport.windows import Waiters


async def test_a_waiter_cancelled_as_all_are_woken_is_just_cancelled() -> None:
    """Its task hears of the cancellation and of nothing else."""
    waiters = Waiters()
    task = asyncio.create_task(waiters.wait())
    await asyncio.sleep(0)
    task.cancel()
    waiters.wake()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_waiter_that_gave_up_is_forgotten() -> None:
    """However many try, nothing is kept of them."""
    waiters = Waiters()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(waiters.wait(), 0.001)
    assert len(waiters) == 0


async def test_all_who_wait_go_on() -> None:
    """One call wakes everybody, and those who come later wait for the next."""
    waiters = Waiters()
    tasks = [asyncio.create_task(waiters.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    waiters.wake()
    await asyncio.gather(*tasks)
