"""Who waits for an item or for room."""

from __future__ import annotations

import asyncio

import pytest

from kitmsg.transport.windows import Incoming, Waiters


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


@pytest.mark.parametrize(
    ("busy", "size", "window"),
    [(1, 10, 256), (8, 10, 128), (64, 10, 16), (1000, 10, 2), (8, 500_000, 2)],
)
def test_busy_streams_share_what_is_on_its_way(
    busy: int, size: int, window: int
) -> None:
    """An answer waits behind no more than some hundred items, of however many streams."""
    incoming = Incoming()
    incoming.granted = 16
    for seq in range(1, 17):
        incoming.count(seq, size, "test")
        incoming.read()
    assert incoming.grant(busy) == 16 + window


def test_no_credit_is_given_before_half_of_it_is_used() -> None:
    """Else there would be a message for every item."""
    incoming = Incoming()
    incoming.granted = 16
    grants = []
    for seq in range(1, 1001):
        incoming.count(seq, 10, "test")
        if incoming.read():
            grants.append(incoming.grant(1))
    assert grants == [257, 385, 513, 641, 769, 897, 1025, 1153]


def test_a_sender_that_drains_has_credit_sooner() -> None:
    """It takes credit for the sign that its reader goes on."""
    incoming = Incoming()
    incoming.granted = 16
    incoming.acknowledge_finely()
    assert incoming.grant(1) == 256
    grants = []
    for seq in range(1, 17):
        incoming.count(seq, 10, "test")
        if incoming.read():
            grants.append(incoming.grant(1))
    assert grants == [260, 264, 268, 272]
