"""A mailbox takes so many turns, in order, and says when it is full."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kitmsg.mailbox import Mailbox
from tests.mailbox.turns import Turn, forever, settled


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
