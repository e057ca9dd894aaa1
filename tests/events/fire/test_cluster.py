"""Events and tells on a cluster of three, whose leaders step down and whose servers die.

Like `test_fire`: none is lost, each effect is there once, and duplicates are marked.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

import kitmsg
from kitmsg.bus.nats import NatsBus
from kitmsg.errors import KitError
from kitmsg.wire import JS_API
from tests.events.fire.fleet import Storm, end, fleet, is_long, make_streams
from tests.events.fire.test_fire import held, rage
from tests.jetstream.clusters import ready, three

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from kitmsg import Kit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200 if is_long() else 300)]

LEADERS = (
    "STREAM.LEADER.STEPDOWN.fire",
    "STREAM.LEADER.STEPDOWN.tell-ledger",
    "CONSUMER.LEADER.STEPDOWN.fire.ledger-plain",
    "CONSUMER.LEADER.STEPDOWN.fire.ledger-on_stream",
    "CONSUMER.LEADER.STEPDOWN.fire.ledger-in_sqlite",
    "CONSUMER.LEADER.STEPDOWN.fire.ledger-in_postgres",
    "CONSUMER.LEADER.STEPDOWN.tell-ledger.ledger-told",
)


async def test_none_is_lost_and_none_counts_twice_on_a_cluster(
    tmp_path: Path, environ: dict[str, str], databases: dict[str, AsyncEngine]
) -> None:
    chance = random.Random(1)
    async with AsyncExitStack() as stack:
        servers = await asyncio.to_thread(stack.enter_context, three())
        url = ",".join(server.url for server in servers.values())
        bus = await NatsBus.connect(url)
        await ready(bus)
        await bus.close()
        kit = await stack.enter_async_context(kitmsg.connect(url))
        await make_streams(kit, replicas=3)
        commands = await asyncio.to_thread(
            stack.enter_context,
            fleet(tmp_path, [url], environ | {"FIRE_REPLICAS": "3"}, workers=4),
        )
        storm = Storm(commands, chance, longest=3.0)
        storm.more = {
            leader_steps_down(storm, kit): 2,
            storm.restart(*servers.values()): 1,
        }
        await rage(storm, kit, chance)
        account = await held(url, storm, tmp_path, databases)
        await asyncio.to_thread(end, commands)
    assert account.broken() == {}


def leader_steps_down(storm: Storm, kit: Kit) -> Callable[[], Awaitable[None]]:
    """Return a fault: the leader of a stream or of a consumer gives way to another."""

    async def step_down() -> None:
        subject = storm.chance.choice(LEADERS)
        with storm.outage(), contextlib.suppress(KitError):
            await kit.bus.request(f"{JS_API}.{subject}", b"", 5.0)

    return step_down
