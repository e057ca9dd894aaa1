"""A database or a bus that is away: the relay says so once, waits, and goes on."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from kitmsg import Kit, outbox
from kitmsg.bus.memory import MemoryBus
from kitmsg.errors import FailedPrecondition
from tests.outbox.test_relay import Placed, make_stream, relaying, until_stored

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

    Sessions = async_sessionmaker[AsyncSession]

pytestmark = pytest.mark.anyio


async def until_said(
    caplog: pytest.LogCaptureFixture, words: str, count: int = 1
) -> None:
    async with asyncio.timeout(15):
        while caplog.text.count(words) < count:
            await asyncio.sleep(0.01)


async def test_a_relay_waits_for_its_tables(
    engine: AsyncEngine, sessions: Sessions, kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    await make_stream(kit)
    async with engine.begin() as connection:
        await connection.run_sync(outbox.metadata.drop_all)
    async with relaying(engine, kit):
        await until_said(caplog, "waits and tries again")
        assert "kitmsg outbox tables URL" in caplog.text
        await outbox.make_tables(engine)
        async with sessions.begin() as session:
            await outbox.add(session, Placed("A1"))
        assert await until_stored(kit, 1) == [Placed("A1")]
    assert caplog.text.count("waits and tries again") == 1


async def test_a_relay_that_lost_its_database_comes_back(
    url: str,
    database: str,
    engine: AsyncEngine,
    sessions: Sessions,
    kit: Kit,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if database == "sqlite":
        pytest.skip("SQLite has no server to lose")
    caplog.set_level(logging.INFO, "kitmsg.outbox")
    await make_stream(kit)
    own = create_async_engine(url)
    async with relaying(own, kit):
        await until_said(caplog, "works here")
        async with engine.begin() as connection:
            await connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        await until_said(caplog, "waits and tries again")
        async with sessions.begin() as session:
            await outbox.add(session, Placed("A1"))
        assert await until_stored(kit, 1) == [Placed("A1")]
        await until_said(caplog, "works here", 2)
    await own.dispose()


async def test_events_stay_while_there_is_no_bus(
    engine: AsyncEngine, sessions: Sessions, kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    await make_stream(kit)
    async with sessions.begin() as session:
        await outbox.add(session, Placed("A1"))
    gone = Kit(MemoryBus())
    store = gone.jetstream
    await gone.bus.close()
    task = asyncio.ensure_future(outbox.Relay(engine, store).run())
    await until_said(caplog, "waits and tries again")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with relaying(engine, kit):
        assert await until_stored(kit, 1) == [Placed("A1")]


async def test_a_database_of_one_connection_is_refused(kit: Kit) -> None:
    engine = create_async_engine("sqlite+aiosqlite://")
    with pytest.raises(FailedPrecondition, match="use a file"):
        await outbox.Relay(engine, kit.jetstream).run()
    await engine.dispose()
