"""Turns that are late, cancelled or broken, and the worker that outlives them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time

import pytest

from kitmsg.errors import Code
from kitmsg.mailbox import Mailbox
from kitmsg.threads import in_thread
from tests.mailbox.turns import Turn, forever, settled


async def test_a_late_turn_is_cut() -> None:
    """A running turn past its deadline ends with DEADLINE_EXCEEDED within 50 ms."""
    loop = asyncio.get_running_loop()
    ended_at = 0.0

    async def work() -> None:
        nonlocal ended_at
        try:
            await forever()
        finally:
            ended_at = loop.time()

    deadline = loop.time() + 2
    late, patient = Turn(work, deadline=deadline), Turn(forever)
    box = Mailbox(concurrency=2, size=2)
    box.offer(late)
    box.offer(patient)
    await asyncio.sleep(10)
    assert late.ends == [Code.DEADLINE_EXCEEDED]
    assert deadline <= ended_at <= deadline + 0.051
    assert patient.ends == []
    await box.stop()


async def test_a_late_turn_is_cut_once() -> None:
    """It may clean up in peace, and ends for the reason it was cut for."""
    is_clean = False

    async def work() -> None:
        nonlocal is_clean
        try:
            await forever()
        finally:
            await asyncio.sleep(1)
            is_clean = True

    loop = asyncio.get_running_loop()
    turn = Turn(work, deadline=loop.time() + 1)
    box = Mailbox(concurrency=1, size=2)
    box.offer(turn)
    await asyncio.sleep(1.5)
    box.cancel(turn)
    await asyncio.sleep(1)
    assert is_clean
    assert turn.ends == [Code.DEADLINE_EXCEEDED]
    await box.stop()


async def test_cancel_ends_a_running_turn_and_the_worker_goes_on() -> None:
    """A cancelled turn ends with CANCELLED; its worker takes the next."""
    first, second = Turn(forever), Turn()
    box = Mailbox(concurrency=1, size=2)
    box.offer(first)
    box.offer(second)
    await settled()
    box.cancel(first)
    await settled()
    assert first.ends == [Code.CANCELLED]
    assert second.is_done
    assert box.running == 0
    await box.stop()


async def test_cancel_takes_a_waiting_turn_out() -> None:
    """A turn cancelled in the queue never runs, and leaves its room."""
    box = Mailbox(concurrency=1, size=1)
    first, second, third = Turn(forever), Turn(), Turn()
    assert box.offer(first)
    assert box.offer(second)
    await settled()
    box.cancel(second)
    assert second.ends == [Code.CANCELLED]
    assert box.offer(third)
    box.cancel(first)
    await settled()
    assert third.is_done
    assert not second.is_done
    await box.stop()


async def test_cancel_of_a_turn_that_is_over_does_nothing() -> None:
    """Cancelling too late hits nobody, least of all the next turn of that worker."""
    done, running = Turn(), Turn(lambda: asyncio.sleep(1))
    box = Mailbox(concurrency=1, size=2)
    box.offer(done)
    await settled()
    box.offer(running)
    await settled()
    box.cancel(done)
    await asyncio.sleep(2)
    assert done.ends == []
    assert running.is_done
    await box.stop()


async def test_a_swallowed_cancellation_does_not_break_the_worker() -> None:
    """A turn that ignores its end may finish; the worker is sound afterwards."""

    async def stubborn() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await forever()
        await asyncio.sleep(1)

    first, then = Turn(stubborn), [Turn(lambda: asyncio.sleep(1)) for _ in range(3)]
    box = Mailbox(concurrency=1, size=8)
    box.offer(first)
    await settled()
    box.cancel(first)
    for turn in then:
        box.offer(turn)
    await asyncio.sleep(10)
    assert first.is_done
    assert first.ends == []
    assert all(turn.is_done and not turn.ends for turn in then)
    await box.drain(1)


async def test_a_turn_may_raise_cancelled_error_itself() -> None:
    """That is a failure of its own: it ends the turn with INTERNAL, not the worker."""

    async def give_up() -> None:
        raise asyncio.CancelledError

    first, second = Turn(give_up), Turn()
    box = Mailbox(concurrency=1, size=2)
    box.offer(first)
    box.offer(second)
    await settled()
    assert first.ends == [Code.INTERNAL]
    assert second.is_done
    await box.stop()


async def test_a_worker_outlives_an_exception(caplog: pytest.LogCaptureFixture) -> None:
    """What a turn lets out is logged, and the next one runs."""

    async def boom() -> None:
        raise ValueError("boom")

    second = Turn()
    box = Mailbox(concurrency=1, size=2)
    box.offer(Turn(boom))
    box.offer(second)
    await settled()
    assert second.is_done
    assert "a turn failed outside its handler" in caplog.text
    await box.stop()


async def test_a_turn_that_takes_its_worker_along_makes_room_for_another() -> None:
    """What no turn may raise costs no concurrency."""

    async def tear() -> None:
        raise GeneratorExit

    box = Mailbox(concurrency=2)
    turns = [Turn(tear) for _ in range(5)] + [Turn()]
    for turn in turns:
        assert box.offer(turn)
    await asyncio.sleep(1.0)
    assert turns[-1].is_done
    assert box.running == box.waiting == 0
    await box.drain(1.0)


class Erratic:
    """Work that takes its end well, or badly, by chance.

    Args:
        chance: Decides.
        most: How many may run at once.
    """

    def __init__(self, chance: random.Random, most: int) -> None:
        self.chance = chance
        self.most = most
        self.running = 0
        self.threads = 0
        self.lock = threading.Lock()

    def block(self) -> None:
        """Block a thread, of which there are never more than turns."""
        with self.lock:
            self.threads += 1
            assert self.threads <= self.most
        time.sleep(0.001)
        with self.lock:
            self.threads -= 1

    async def __call__(self) -> None:
        """Sleep, maybe; give up, maybe; clean up, maybe."""
        chance = self.chance.random
        self.running += 1
        assert self.running <= self.most
        try:
            if chance() < 0.8:
                await asyncio.sleep(chance())
            if chance() < 0.1:
                await in_thread(self.block)
            if chance() < 0.1:
                raise asyncio.CancelledError
        except asyncio.CancelledError:
            if chance() < 0.3:
                await asyncio.sleep(chance())
            raise
        finally:
            self.running -= 1


@pytest.mark.parametrize("seed", range(20))
async def test_every_turn_ends_once(seed: int) -> None:
    """Whatever comes, each turn taken is done or ended, exactly once, and none is lost."""
    chance = random.Random(seed)
    concurrency = chance.randrange(1, 5)
    box = Mailbox(concurrency=concurrency, size=chance.randrange(0, 12))
    work = Erratic(chance, concurrency)
    taken: list[Turn] = []
    for _ in range(300):
        limit = asyncio.get_running_loop().time() + chance.random()
        turn = Turn(work, deadline=limit if chance.random() < 0.3 else None)
        if box.offer(turn):
            taken.append(turn)
        if taken and chance.random() < 0.3:
            box.cancel(chance.choice(taken))
        if chance.random() < 0.6:
            await asyncio.sleep(chance.random() / 10)
    await box.drain(chance.random())
    assert [turn.is_done + len(turn.ends) for turn in taken] == [1] * len(taken)
    assert (box.running, box.waiting) == (0, 0)
