"""The bounded queue and its workers, alone: no bus, no messages, time that jumps."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg.errors import Code
from kitmsg.mailbox import Mailbox
from kitmsg.testing import VirtualTimeLoop
from kitmsg.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run on asyncio, in debug mode, in virtual time."""
    return "asyncio", {"debug": True, "loop_factory": VirtualTimeLoop}


class Turn:
    """A turn that does what the test says, and remembers how it ended."""

    reply = ""

    def __init__(
        self,
        work: Callable[[], Awaitable[None]] | None = None,
        *,
        deadline: float | None = None,
    ) -> None:
        self.deadline = deadline
        self.work = work
        self.ends: list[Code] = []
        self.is_done = False

    async def run(self) -> None:
        """Do the work."""
        if self.work is not None:
            await self.work()
        self.is_done = True

    def ended(self, code: Code) -> None:
        """Remember why it was cut short."""
        self.ends.append(code)


async def forever() -> None:
    """Wait for ever."""
    await asyncio.Event().wait()


async def swallow_once(gate: asyncio.Event) -> None:
    """Wait for `gate`, and take no offence at being cancelled."""
    with contextlib.suppress(asyncio.CancelledError):
        await gate.wait()


async def swallow() -> None:
    """Wait for ever, and take no offence at being cancelled."""
    with contextlib.suppress(asyncio.CancelledError):
        await forever()


async def settled() -> None:
    """Let everything that can run run."""
    await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    "limits", [{"concurrency": 0}, {"concurrency": -1}, {"size": -1}]
)
def test_limits_are_checked(limits: dict[str, Any]) -> None:
    """A mailbox that could do nothing is refused."""
    with pytest.raises(ValueError, match="must be at least"):
        Mailbox(**limits)


async def test_runs_at_most_so_many_at_once() -> None:
    """`concurrency` turns run, the others wait, each runs once."""
    most = running = 0

    async def work() -> None:
        nonlocal most, running
        running += 1
        most = max(most, running)
        await asyncio.sleep(1)
        running -= 1

    box = Mailbox(concurrency=3, size=100)
    turns = [Turn(work) for _ in range(20)]
    assert all(box.offer(turn) for turn in turns)
    await settled()
    assert (box.running, box.waiting) == (3, 17)
    await box.drain(100)
    assert most == 3
    assert all(turn.is_done and not turn.ends for turn in turns)


async def test_refuses_what_there_is_no_room_for() -> None:
    """Beyond `concurrency` and `size` a turn is refused, and nothing of it is kept."""
    box = Mailbox(concurrency=2, size=3)
    taken = [box.offer(Turn(forever)) for _ in range(7)]
    assert taken == [True] * 5 + [False] * 2
    await settled()
    assert (box.running, box.waiting) == (2, 3)
    await box.stop()


async def test_without_waiting_room_runs_and_refuses() -> None:
    """A `size` of 0 runs `concurrency` turns and refuses the next."""
    box = Mailbox(concurrency=1, size=0)
    assert box.offer(Turn(forever))
    assert not box.offer(Turn(forever))
    await box.stop()


async def test_keeps_the_order() -> None:
    """One worker takes turns in the order they came."""
    seen: list[int] = []

    def note(n: int) -> Turn:
        async def work() -> None:
            seen.append(n)
            if n % 3 == 0:
                await asyncio.sleep(0.1)

        return Turn(work)

    box = Mailbox(concurrency=1, size=100)
    for n in range(20):
        box.offer(note(n))
    await box.drain(100)
    assert seen == list(range(20))


async def test_empties_the_queue_without_a_turn_of_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker whose turns do not suspend does them all in one go."""
    monkeypatch.setattr("kitmsg.mailbox._RUN_SECONDS", 60.0)  # however slow the machine
    turns = [Turn() for _ in range(100)]
    box = Mailbox(concurrency=4, size=1000)
    for turn in turns:
        box.offer(turn)
    await asyncio.sleep(0)  # exactly one turn of the loop: the worker's
    assert all(turn.is_done for turn in turns)
    await box.stop()


async def test_lets_the_loop_breathe() -> None:
    """A long queue of turns that never suspend does not keep the loop from others."""
    turns = [Turn() for _ in range(5000)]
    box = Mailbox(concurrency=1, size=6000)
    for turn in turns:
        box.offer(turn)
    await asyncio.sleep(0)
    done = sum(turn.is_done for turn in turns)
    assert 0 < done < 5000
    await box.drain(10)
    assert all(turn.is_done for turn in turns)


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


async def test_says_when_it_is_full_and_when_there_is_room() -> None:
    """`on_full` above three quarters of the queue, `on_room` below one; each once."""
    said: list[tuple[str, int]] = []
    box = Mailbox(
        concurrency=1,
        size=8,
        on_full=lambda: said.append(("full", box.waiting + box.running)),
        on_room=lambda: said.append(("room", box.waiting + box.running)),
    )
    gate = asyncio.Semaphore(0)

    async def work() -> None:
        await gate.acquire()

    async def finish(n: int) -> None:
        for _ in range(n):
            gate.release()
        await settled()

    box.offer(Turn(work))
    await settled()
    for _ in range(6):
        box.offer(Turn(work))
    assert said == []
    box.offer(Turn(work))
    assert said == [("full", 8)]
    box.offer(Turn(work))
    assert len(said) == 1
    await finish(5)
    assert len(said) == 1
    await finish(1)
    assert said == [("full", 8), ("room", 3)]
    await box.stop()


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


async def test_turned_over_waits_for_those_that_run_now() -> None:
    """It ends when the turns that ran at its call are over; later ones do not count."""
    first, second = Turn(lambda: asyncio.sleep(1)), Turn(forever)
    box = Mailbox(concurrency=1, size=10)
    box.offer(first)
    box.offer(second)
    await settled()
    await box.turned_over()
    assert first.is_done
    assert not second.is_done
    await box.stop()


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


class Burning(Turn):
    """A turn that needs a part of a millisecond of the processor."""

    async def run(self) -> None:
        """Work."""
        end = time.thread_time() + 0.0005
        while time.thread_time() < end:
            pass
        self.is_done = True


def test_an_overloaded_mailbox_refuses_what_would_wait_long(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """When more comes than can be done few wait, and one line says so."""

    async def overload() -> tuple[int, int]:
        mailbox = Mailbox(concurrency=4, size=4096, sheds=True)
        refused = 0
        while not refused:
            for _ in range(100):  # more than the 10 of 5 ms
                refused += not mailbox.offer(Burning())
            await asyncio.sleep(0)
        while not mailbox.offer(Burning()):  # what was taken before is done
            await asyncio.sleep(0.01)
        longest = 0
        for _ in range(20):
            while mailbox.offer(Burning()):
                pass
            longest = max(longest, mailbox.waiting)
            await asyncio.sleep(0)
        await mailbox.drain(10.0)
        return refused, longest

    caplog.set_level("INFO", "kitmsg.mailbox")
    refused, longest = asyncio.run(overload())
    assert refused > 0
    assert longest <= 101  # 2,000 a second, at best
    assert sum("more turns come than" in text for text in caplog.messages) == 1


def test_long_runs_of_turns_let_the_loop_read_and_write() -> None:
    """However many workers there are: it turns at least once in 5 ms and one turn."""

    async def run() -> list[int]:
        loop = asyncio.get_running_loop()
        mailbox = Mailbox(concurrency=64)
        done: list[int] = []
        turns = [Burning() for _ in range(400)]
        for turn in turns:
            mailbox.offer(turn)

        def look() -> None:
            done.append(sum(turn.is_done for turn in turns))
            if done[-1] < len(turns):
                loop.call_soon(look)

        loop.call_soon(look)
        await mailbox.drain(10.0)
        look()
        return done

    done = asyncio.run(run())
    # Half a millisecond of the processor each is 10 in a run; one more ends it.
    assert max(b - a for a, b in itertools.pairwise(done)) <= 11


async def test_without_shedding_an_overload_changes_nothing() -> None:
    """The mailbox keeps its length."""
    mailbox = Mailbox(concurrency=1, size=8)
    for _ in range(9):
        assert mailbox.offer(Turn())
    assert not mailbox.offer(Turn())
    await mailbox.drain(1.0)
