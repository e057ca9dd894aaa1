"""The relay: an event leaves if and only if its transaction committed, once, in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg import Event, outbox
from kitmsg.errors import InvalidArgument
from kitmsg.events.declared import Declared, apply, plan
from kitmsg.metrics.memory import MemoryMetrics
from kitmsg.outbox.rows import first_rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

    from kitmsg import Kit

    Sessions = async_sessionmaker[AsyncSession]

pytestmark = pytest.mark.anyio


class Placed(Event, subject="orders.placed.{order_id}"):
    order_id: str
    number: int = 0


async def make_stream(kit: Kit) -> None:
    declared = Declared()
    declared.event(Placed)
    await apply(kit.jetstream, await plan(kit.jetstream, declared))


async def stored(kit: Kit) -> list[Placed]:
    return [each async for each in kit.events(Placed)]


async def until_stored(kit: Kit, count: int, seconds: float = 20.0) -> list[Placed]:
    """Return the events in the stream, once there are so many."""
    stream = await kit.jetstream.stream("orders")
    async with asyncio.timeout(seconds):
        while (await stream.info()).messages < count:
            await asyncio.sleep(0.01)
    return await stored(kit)


async def rows(engine: AsyncEngine) -> list[Any]:
    async with engine.connect() as connection:
        return list(await first_rows(connection, 10_000))


async def until_empty(engine: AsyncEngine, seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while await rows(engine):
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def relaying(
    engine: AsyncEngine, kit: Kit, **options: Any
) -> AsyncIterator[None]:
    """Have a relay run during the block."""
    relay = outbox.Relay(engine, kit.jetstream, **options)
    task = asyncio.ensure_future(relay.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_an_event_leaves_if_and_only_if_its_transaction_commits(
    engine: AsyncEngine, sessions: Sessions, kit: Kit
) -> None:
    await make_stream(kit)
    async with relaying(engine, kit):
        async with sessions() as session:
            await outbox.add(session, Placed("lost"))
            await session.rollback()
        async with sessions.begin() as session:
            id_ = await outbox.add(session, Placed("kept"))
        assert await until_stored(kit, 1) == [Placed("kept")]
        await until_empty(engine)
    stream = await kit.jetstream.stream("orders")
    message = await stream.last("event.orders.placed.kept")
    assert message.headers["Nats-Msg-Id"] == message.headers["ce-id"] == id_


async def test_a_commit_wakes_the_relay_on_postgresql(
    engine: AsyncEngine, sessions: Sessions, kit: Kit, database: str
) -> None:
    if database == "sqlite":
        pytest.skip("SQLite has no NOTIFY; the relay polls")
    await make_stream(kit)
    async with relaying(engine, kit, poll=3600.0):
        for number in range(3):
            async with sessions.begin() as session:
                await outbox.add(session, Placed("A1", number))
            await until_stored(kit, number + 1, 10.0)


async def test_events_of_a_key_are_stored_in_their_order(
    engine: AsyncEngine, sessions: Sessions, kit: Kit
) -> None:
    await make_stream(kit)
    async with sessions.begin() as session:
        for number in range(60):
            await outbox.add(session, Placed(f"A{number % 7}", number))
    async with relaying(engine, kit, batch=25):
        found = await until_stored(kit, 60)
    for name in {each.order_id for each in found}:
        numbers = [each.number for each in found if each.order_id == name]
        assert numbers == sorted(numbers)


async def test_a_key_that_is_given_orders_events_of_several_subjects(
    engine: AsyncEngine, sessions: Sessions, kit: Kit
) -> None:
    await make_stream(kit)
    async with sessions.begin() as session:
        for number in range(20):
            await outbox.add(session, Placed(f"A{number}", number), key="customer-1")
    async with relaying(engine, kit):
        found = await until_stored(kit, 20)
    assert [each.number for each in found] == list(range(20))


async def test_an_event_that_does_not_fit_is_refused_in_the_transaction(
    engine: AsyncEngine, sessions: Sessions
) -> None:
    async with sessions.begin() as session:
        with pytest.raises(InvalidArgument, match="number"):
            await outbox.add(session, Placed("A1", "many"))  # type: ignore[arg-type]
        with pytest.raises(InvalidArgument, match="id="):
            await outbox.add(session, Placed("A1"), id="two words")
        with pytest.raises(TypeError):
            await outbox.add(session, "A1")  # type: ignore[arg-type]
    assert await rows(engine) == []


async def test_an_id_is_added_once(engine: AsyncEngine, sessions: Sessions) -> None:
    for number in range(2):
        async with sessions.begin() as session:
            await outbox.add(session, Placed("A1", number), id="order-A1")
    (row,) = await rows(engine)
    assert row.message.message_id == "order-A1"
    assert b"0" in row.message.data


async def test_one_relay_works_and_another_takes_over(
    engine: AsyncEngine,
    sessions: Sessions,
    kit: Kit,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "kitmsg.outbox")
    await make_stream(kit)
    options = {"standby": 0.05, "lease": 1.0}
    async with relaying(engine, kit, **options):
        async with sessions.begin() as session:
            await outbox.add(session, Placed("A1"))
        await until_stored(kit, 1)
        async with asyncio.timeout(5):
            while "works here" not in caplog.text:
                await asyncio.sleep(0.01)
        second = outbox.Relay(engine, kit.jetstream, **options)  # type: ignore[arg-type]
        task = asyncio.ensure_future(second.run())
        async with asyncio.timeout(5):
            while "stands by" not in caplog.text:
                await asyncio.sleep(0.01)
    async with sessions.begin() as session:
        await outbox.add(session, Placed("A2"))
    assert await until_stored(kit, 2) == [Placed("A1"), Placed("A2")]
    async with asyncio.timeout(5):
        while caplog.text.count("works here") < 2:
            await asyncio.sleep(0.01)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert caplog.text.count("works here") == 2
    assert caplog.text.count("stands by") == 1


async def test_an_event_that_is_refused_holds_up_only_its_key(
    engine: AsyncEngine,
    sessions: Sessions,
    kit: Kit,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Lost(Event, subject="nowhere.{n}"):
        n: int

    await make_stream(kit)
    async with sessions.begin() as session:
        await outbox.add(session, Lost(1), key="A1")
        await outbox.add(session, Placed("A1"), key="A1")
        await outbox.add(session, Placed("A2"))
    async with relaying(engine, kit):
        assert await until_stored(kit, 1) == [Placed("A2")]
        async with asyncio.timeout(10):
            while "is refused" not in caplog.text:
                await asyncio.sleep(0.01)
        declared = Declared()
        declared.event(Lost)
        await apply(kit.jetstream, await plan(kit.jetstream, declared))
        assert await until_stored(kit, 2) == [Placed("A2"), Placed("A1")]
        await until_empty(engine)
    assert caplog.text.count("is refused") == 1
    assert "no stream stores 'event.nowhere.1'" in caplog.text


async def test_lag_is_measured(
    engine: AsyncEngine, sessions: Sessions, kit: Kit
) -> None:
    await make_stream(kit)
    metrics = MemoryMetrics()
    async with sessions.begin() as session:
        await outbox.add(session, Placed("A1"))
    async with relaying(engine, kit, metrics=metrics):
        await until_empty(engine)
        async with asyncio.timeout(5):
            while not _values(metrics).get("kitmsg_outbox_active"):
                await asyncio.sleep(0.01)
        assert _values(metrics)["kitmsg_outbox_published_total"] == 1
        assert "kitmsg_outbox_lag_seconds" in _values(metrics)
    assert _values(metrics)["kitmsg_outbox_active"] == 0


def _values(metrics: MemoryMetrics) -> dict[str, Any]:
    return {f.name: f.samples[0][1] for f in metrics.collect() if f.samples}
