"""A mailbox drains and stops, however its turns take it."""

from __future__ import annotations

import asyncio

import pytest

from kitmsg.errors import Code
from kitmsg.mailbox import Mailbox
from kitmsg.testing import VirtualTimeLoop
from tests.mailbox.turns import Turn, forever, settled, swallow, swallow_once


async def test_drain_waits_for_all() -> None:
    """What runs and what waits is finished first."""
    turns = [Turn(lambda: asyncio.sleep(1)) for _ in range(6)]
    box = Mailbox(concurrency=2, size=10)
    for turn in turns:
        box.offer(turn)
    started = asyncio.get_running_loop().time()
    await box.drain(10)
    assert all(turn.is_done for turn in turns)
    assert asyncio.get_running_loop().time() - started == pytest.approx(3, abs=0.01)


async def test_drain_answers_the_rest() -> None:
    """When the time is up, running and waiting turns end with UNAVAILABLE."""
    turns = [Turn(forever) for _ in range(3)]
    box = Mailbox(concurrency=1, size=10)
    for turn in turns:
        box.offer(turn)
    await box.drain(2)
    assert [turn.ends for turn in turns] == [[Code.UNAVAILABLE]] * 3


async def test_drain_of_an_empty_mailbox_is_at_once() -> None:
    """Nothing to do takes no time."""
    started = asyncio.get_running_loop().time()
    await Mailbox().drain(10)
    assert asyncio.get_running_loop().time() == started


@pytest.mark.parametrize("how", ["swallows", "fails"])
async def test_stop_ends_though_a_turn_takes_it_badly(how: str) -> None:
    """A turn that swallows its end, or answers it with an error, holds up nobody."""

    async def bad() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            if how == "fails":
                raise ValueError("instead") from None

    box = Mailbox(concurrency=2, size=10)
    box.offer(Turn(bad))
    await settled()
    async with asyncio.timeout(1):
        await box.drain(0.1)
    assert box.running == 0


async def test_stop_does_not_wait_for_a_turn_that_never_ends() -> None:
    """A turn that swallows every cancellation is answered once and left to itself."""
    gate = asyncio.Event()

    async def stubborn() -> None:
        while not gate.is_set():
            await swallow_once(gate)

    box = Mailbox(concurrency=1)
    turn, waiting = Turn(stubborn), Turn()
    assert box.offer(turn)
    assert box.offer(waiting)
    await asyncio.sleep(0)
    await asyncio.wait_for(box.drain(1.0), 5.0)
    assert turn.ends == [Code.UNAVAILABLE]
    assert waiting.ends == [Code.UNAVAILABLE]
    gate.set()
    await asyncio.sleep(1.0)
    assert turn.ends == [Code.UNAVAILABLE]


async def test_after_stop_turns_are_answered_not_run() -> None:
    """What comes during or after `stop` ends with UNAVAILABLE."""

    async def slow_to_end() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(1)

    box = Mailbox(concurrency=2, size=10)
    box.offer(Turn())
    box.offer(Turn(slow_to_end))
    await settled()  # one worker is idle now, one busy
    stopping = asyncio.create_task(box.stop())
    await settled()
    during, after = Turn(), Turn()
    assert box.offer(during)
    await stopping
    assert box.offer(after)
    await settled()
    assert [during.ends, after.ends] == [[Code.UNAVAILABLE], [Code.UNAVAILABLE]]
    assert not during.is_done
    assert not after.is_done


@pytest.mark.parametrize("is_swallowed", [False, True])
def test_a_loop_that_ends_is_not_held_up(is_swallowed: bool) -> None:
    """A program that ends without a drain ends: its turns are cancelled with it."""
    turn = Turn(swallow if is_swallowed else forever)

    async def main() -> None:
        box = Mailbox(concurrency=1, size=2)
        box.offer(turn)
        await settled()
        assert box.running == 1

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())
    assert turn.ends == ([] if is_swallowed else [Code.UNAVAILABLE])
