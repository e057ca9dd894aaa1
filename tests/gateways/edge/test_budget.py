"""The budget of bytes: short things have room, slow ones give way, clients take turns."""

from __future__ import annotations

import asyncio
import functools

import pytest

from kitmsg.errors import ResourceExhausted
from kitmsg_gateways.edge.budget import SHORT_BYTES, SLOW_SECONDS, Budget, Claim

LIMIT = 256 << 20
LONG = 64 << 20


def nothing() -> None:
    """Give way without a word."""


async def test_long_bodies_share_a_budget():
    """One that comes when it is full is told to come back; short ones have room."""
    budget = Budget(LIMIT)
    claims = [Claim(budget, nothing) for _ in range(4)]
    for claim in claims[:3]:
        claim.resize(LONG)
    with pytest.raises(ResourceExhausted) as caught:
        claims[3].resize(LONG)
    assert caught.value.retry_after
    assert (budget.held, budget.refused) == (3 * LONG, 1)
    budget.take(SHORT_BYTES)
    claims[0].end()
    claims[0].end()
    claims[3].resize(LONG)
    budget.give(SHORT_BYTES)
    assert budget.held == 3 * LONG


async def test_what_is_here_holds_what_it_is():
    """And gives way no more."""
    budget, ended = Budget(1000), []
    claim = Claim(budget, lambda: ended.append(1))
    claim.resize(800)
    claim.settle(10)
    assert (budget.held, budget.arriving) == (10, {})
    claim.end()
    assert (budget.held, ended) == (0, [])


async def test_what_arrives_slowly_gives_way(monkeypatch):
    """The oldest first, and no more of them than needed."""
    loop = asyncio.get_running_loop()
    ended: list[int] = []
    budget = Budget(1000)
    claims = [Claim(budget, functools.partial(ended.append, n)) for n in range(3)]
    for claim in claims:
        claim.resize(300)
    with pytest.raises(ResourceExhausted):
        budget.take(500)
    now = loop.time() + SLOW_SECONDS + 0.1
    monkeypatch.setattr(loop, "time", lambda: now)
    budget.take(500)
    assert ended == [0, 1]
    assert budget.held == 800


async def test_a_dripping_claim_grows_and_does_not_get_younger(monkeypatch):
    """A part every now and then is no new beginning."""
    loop, budget, ended = asyncio.get_running_loop(), Budget(1000), []
    claim = Claim(budget, lambda: ended.append(1))
    claim.resize(100)
    now = loop.time() + SLOW_SECONDS + 0.1
    monkeypatch.setattr(loop, "time", lambda: now)
    claim.resize(900)
    budget.take(500)
    assert ended == [1]


async def test_clients_that_wait_take_turns():
    """One that comes behind a crowd of another's is served next."""
    budget, order = Budget(1000), []
    first = Claim(budget, nothing)
    await budget.wait(first, 800, lambda: "eve")

    async def one(client: str) -> None:
        claim = Claim(budget, nothing)
        await budget.wait(claim, 800, lambda: client)
        order.append(client)
        claim.end()

    tasks = [asyncio.create_task(one("eve")) for _ in range(10)]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(one("ann")))
    tasks.append(asyncio.create_task(one("bob")))
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.sleep(0)
    assert order == []
    first.end()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order.index("ann") <= 2
    assert len(order) == 11
    assert budget.held == 0


async def test_those_that_wait_get_the_room_of_the_slow():
    """By themselves: nobody has to come for it."""
    budget, ended = Budget(1000), []
    slow = Claim(budget, lambda: ended.append(1))
    slow.resize(800)
    claim = Claim(budget, nothing)
    async with asyncio.timeout(10):
        await budget.wait(claim, 800, lambda: "ann")
    assert ended == [1]
    with pytest.raises(ResourceExhausted):
        await budget.wait(Claim(budget, nothing), 2000, lambda: "ann")
