"""A publisher that is killed: its events leave if and only if their transaction committed."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.outbox.test_relay import (
    make_stream,
    relaying,
    rows,
    until_empty,
    until_stored,
)

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from kitmsg import Kit
    from kitmsg.bus.embedded import EmbeddedServer

pytestmark = pytest.mark.anyio

DYING = str(Path(__file__).with_name("dying.py"))


async def die(moment: str, url: str, server: EmbeddedServer) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, DYING, moment, url, server.url
    )
    assert await child.wait() == -signal.SIGKILL


async def test_nothing_leaves_of_a_process_killed_before_its_commit(
    engine: AsyncEngine, url: str, server: EmbeddedServer
) -> None:
    await die("before the commit", url, server)
    assert await rows(engine) == []


async def test_all_leaves_of_a_process_killed_after_its_commit(
    engine: AsyncEngine, url: str, server: EmbeddedServer, kit: Kit
) -> None:
    await make_stream(kit)
    await die("after the commit", url, server)
    async with relaying(engine, kit):
        assert len(await until_stored(kit, 10)) == 10


async def test_a_relay_killed_between_publish_and_delete_leaves_no_duplicate(
    engine: AsyncEngine, url: str, server: EmbeddedServer, kit: Kit
) -> None:
    await make_stream(kit)
    await die("before the delete", url, server)
    assert len(await until_stored(kit, 10)) == 10
    assert len(await rows(engine)) == 10
    async with relaying(engine, kit, standby=0.05):
        await until_empty(engine)
    found = await until_stored(kit, 10)
    assert [each.order_id for each in found] == [f"A{n}" for n in range(10)]
