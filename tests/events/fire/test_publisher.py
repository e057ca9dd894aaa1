"""A publisher that is killed at random, between its transactions and the relay.

An event leaves if and only if its transaction committed, and once.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

import kitmsg
from kitmsg import outbox
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.outbox.tables import OUTBOX
from tests.events.fire.account import counted, stored
from tests.events.fire.fleet import ROOT, is_long, make_streams

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from kitmsg import Kit

KILLS = 100 if is_long() else 3
COMMITTING = str(Path(__file__).with_name("committing.py"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900 if is_long() else 240)]


@pytest.mark.parametrize("place", ["in_sqlite", "in_postgres"])
async def test_an_event_leaves_if_and_only_if_its_transaction_committed(
    place: str, databases: dict[str, AsyncEngine], environ: dict[str, str]
) -> None:
    engine, url = databases[place], environ[place.replace("in_", "FIRE_").upper()]
    chance = random.Random(2)
    with EmbeddedServer() as server:
        async with kitmsg.connect(server.url) as kit:
            await make_streams(kit)
            left = 0
            for _ in range(KILLS):
                commits, seconds = chance.randint(1, 20), chance.uniform(0.0, 0.05)
                await kill(url, server.url, commits, seconds)
                left += await waiting(engine)
            await relay(engine, kit)
            published = await stored(kit, "happened")
            committed = await counted(engine)
    print(
        f"{place}: {committed.total():,} commits, {left} left to a relay by {KILLS} kills"
    )
    assert published == committed
    assert committed.total() >= KILLS
    assert set(committed.values()) == {1}


async def kill(url: str, bus: str, commits: int, seconds: float) -> None:
    """Run the publisher for so many commits, and a moment."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        COMMITTING,
        url,
        bus,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert child.stdout is not None
    for _ in range(commits):
        assert await child.stdout.readline()
    await asyncio.sleep(seconds)
    child.kill()
    await child.communicate()


async def waiting(engine: AsyncEngine) -> int:
    """Return how many events wait for a relay."""
    async with engine.connect() as connection:
        found = await connection.execute(select(func.count()).select_from(OUTBOX))
        return int(found.scalar_one())


async def relay(engine: AsyncEngine, kit: Kit) -> None:
    """Relay until nothing waits."""
    running = asyncio.create_task(outbox.Relay(engine, kit.jetstream).run())
    async with asyncio.timeout(60):
        while await waiting(engine):
            await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.wait((running,))
