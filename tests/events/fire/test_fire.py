"""Events and tells through four workers, while workers, server and network fail at random.

None is lost; each effect in a database, or on a stream, is there once; and a duplicate is
marked as a redelivery.  ``KITMSG_LONG=1`` makes as many as the promise says.
"""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

import kitmsg
from kitmsg.bus.embedded import EmbeddedServer
from tests.events.fire.account import (
    Account,
    counted,
    died,
    read_journal,
    settled,
    stored,
)
from tests.events.fire.fleet import (
    LossyProxy,
    Storm,
    at_once,
    end,
    fleet,
    is_long,
    make_streams,
    publish,
    tell,
)
from tests.events.fire.ledger import Happened

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from kitmsg import Kit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200 if is_long() else 300)]

COUNT = int(os.environ.get("KITMSG_EVENTS", "0")) or (100_000 if is_long() else 200)
SEED = int(os.environ.get("KITMSG_SEED", "1"))
PAUSE = 0.12 if is_long() else 0.2  # longest, in seconds, of each of 8 publishers
SETTLED = 3600.0 if is_long() else 120.0


async def test_none_is_lost_and_none_counts_twice_on_one_server(
    tmp_path: Path, environ: dict[str, str], databases: dict[str, AsyncEngine]
) -> None:
    chance = random.Random(SEED)
    async with AsyncExitStack() as stack:
        server = stack.enter_context(EmbeddedServer())
        port = urlsplit(server.url).port or 0
        lossy = await stack.enter_async_context(LossyProxy(port, chance))
        kit = await stack.enter_async_context(kitmsg.connect(lossy.url))
        await make_streams(kit)
        commands = await asyncio.to_thread(
            stack.enter_context, fleet(tmp_path, [server.url, lossy.url], environ)
        )
        storm = Storm(commands, chance, longest=3.0)
        storm.more = {storm.restart(server): 1}
        lossy.loses = 0.05
        await rage(storm, kit, chance)
        lossy.loses = 0.0
        account = await held(server.url, storm, tmp_path, databases)
        output = await asyncio.to_thread(end, commands)
    print(f"{lossy.lost} acknowledgements were lost")
    assert account.broken() == {}
    assert "never retrieved" not in output


async def rage(storm: Storm, kit: Kit, chance: random.Random) -> None:
    """Publish and tell all, while the storm rages; it ends with them."""
    work = [
        partial(publish, kit, Happened(number, chance.uniform(0.0, 0.05)))
        if number % 3
        else partial(tell, kit, number, chance.uniform(0.0, 0.05))
        for number in range(COUNT)
    ]
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    raging = asyncio.create_task(storm.rage(over))
    await at_once(work, 8, lambda: chance.uniform(0.0, PAUSE))
    over.set_result(None)
    await raging


async def held(
    url: str, storm: Storm, folder: Path, databases: dict[str, AsyncEngine]
) -> Account:
    """Return the account of all that was published, once everything is done."""
    async with kitmsg.connect(url) as kit:
        await settled(kit, SETTLED)
        effects = {name: await counted(engine) for name, engine in databases.items()}
        effects["on_stream"] = await stored(kit, "noted")
        once, dead = await stored(kit, "happened"), await died(kit)
    account = Account(
        events=[n for n in range(COUNT) if n % 3],
        tells=[n for n in range(COUNT) if not n % 3],
        journal=read_journal(folder / "journal"),
        stored=once,
        effects=effects,
        dead=dead,
        outages=storm.outages,
    )
    print(
        f"{COUNT:,} events and tells under {dict(storm.done)}:"
        f" {account.redelivered():,} attempts were not the first"
    )
    return account
