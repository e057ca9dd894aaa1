"""The inbox: the effect of a delivery is in the database once, however often it comes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from kitmsg import Event, Service, outbox, subscribe
from kitmsg.errors import FailedPrecondition

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

    from kitmsg import Kit

    Sessions = async_sessionmaker[AsyncSession]

pytestmark = pytest.mark.anyio


class Placed(Event, subject="orders.placed.{order_id}"):
    order_id: str


async def test_a_redelivery_has_its_effect_once(
    engine: AsyncEngine, sessions: Sessions, kit: Kit
) -> None:
    attempts: list[str] = []

    class Ledger(Service):
        @subscribe(Placed, retries=(0.01,) * 5, since="first")
        async def note(self, event: Placed) -> None:
            attempts.append(event.order_id)
            async with sessions.begin() as session:
                if not await outbox.seen(session):
                    await session.execute(
                        text("INSERT INTO effects VALUES (:id)"), {"id": event.order_id}
                    )
                if len(attempts) == 1:
                    raise RuntimeError("before the commit: no effect")
            if len(attempts) == 2:
                raise RuntimeError("after the commit: it comes again")

    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE effects (id VARCHAR(9))"))
    await kit.serve(Ledger())
    await kit.publish(Placed("A1"))
    async with asyncio.timeout(15):
        while len(attempts) < 3:
            await asyncio.sleep(0.01)
    async with engine.connect() as connection:
        found = await connection.execute(text("SELECT id FROM effects"))
        assert found.scalars().all() == ["A1"]


async def test_a_key_is_seen_from_the_commit_on(sessions: Sessions) -> None:
    async with sessions() as session:
        assert not await outbox.seen(session, "k")
        await session.rollback()
    async with sessions.begin() as session:
        assert not await outbox.seen(session, "k")
    async with sessions.begin() as session:
        assert await outbox.seen(session, "k")
        assert not await outbox.seen(session, "other")


async def test_without_a_delivery_a_key_is_needed(sessions: Sessions) -> None:
    async with sessions() as session:
        with pytest.raises(FailedPrecondition, match="give key="):
            await outbox.seen(session)
