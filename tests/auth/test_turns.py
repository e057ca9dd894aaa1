"""Turns of a costly check: what one client guesses costs the others nothing."""

from __future__ import annotations

import asyncio

import pytest

from kitmsg.auth.turns import Turns
from kitmsg.errors import ResourceExhausted


async def waiting(turns: Turns, client: str, name: str, order: list[str]) -> None:
    """Take one turn, and note when it came."""
    async with turns.turn(client, name):
        order.append(client)
        await asyncio.sleep(0)


async def test_clients_take_turns():
    """One who comes behind a queue of another's waits for one of it, not for all."""
    turns = Turns()
    order: list[str] = []
    flood = [waiting(turns, "eve", str(n), order) for n in range(20)]
    tasks = [asyncio.create_task(each) for each in flood]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(waiting(turns, "ann", "ann", order)))
    await asyncio.gather(*tasks)
    assert order.index("ann") <= 5
    assert len(order) == 21


async def test_who_guessed_wrong_comes_last():
    """However many addresses a guesser has."""
    turns = Turns()
    order: list[str] = []
    crowd = [f"eve-{number}" for number in range(50)]
    for each in crowd:
        turns.failed(each, "ann")
    tasks = [asyncio.create_task(waiting(turns, each, "x", order)) for each in crowd]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(waiting(turns, "ann", "ann", order)))
    await asyncio.gather(*tasks)
    assert order.index("ann") <= 5


async def test_a_queue_is_bounded_for_its_client_alone():
    """The client that fills its own is refused; another is not."""
    turns = Turns()
    order: list[str] = []
    flood = [waiting(turns, "eve", str(n), order) for n in range(40)]
    tasks = [asyncio.create_task(each) for each in flood]
    await asyncio.sleep(0)
    await waiting(turns, "ann", "ann", order)
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(each, ResourceExhausted) for each in ended) == 8
    assert "ann" in order


async def test_guesses_at_a_name_have_to_wait_longer_each_time():
    """From where they come; elsewhere the name's owner gets in at once."""
    turns = Turns()
    order: list[str] = []
    pauses: list[float] = []
    for _ in range(8):
        turns.failed("eve", "ann")
        try:
            await waiting(turns, "eve", "ann", order)
        except ResourceExhausted as exc:
            pauses.append(exc.retry_after or 0.0)
    assert order == ["eve"] * 4
    assert pauses == sorted(pauses)
    assert pauses[-1] > 4
    await waiting(turns, "home", "ann", order)
    turns.held("eve", "ann")
    await waiting(turns, "eve", "ann", order)


async def test_one_that_gives_up_leaves_its_turn_to_the_next():
    """Nothing is lost when a request is cancelled while it waits."""
    turns = Turns()
    order: list[str] = []
    tasks = [
        asyncio.create_task(waiting(turns, "ann", str(n), order)) for n in range(6)
    ]
    await asyncio.sleep(0)
    tasks[2].cancel()
    tasks[3].cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(each, asyncio.CancelledError) for each in ended) == 2
    await asyncio.wait_for(waiting(turns, "ann", "ann", order), 5)
    with pytest.raises(RuntimeError):
        async with turns.turn("ann", "ann"):
            raise RuntimeError
    await asyncio.wait_for(waiting(turns, "ann", "ann", order), 5)
