"""The trace of a transaction leads to the deliveries of the events that it added."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from opentelemetry.trace import StatusCode
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

import kitmsg
from kitmsg import Event, Service, endpoint, outbox, subscribe
from tests.outbox.test_relay import relaying
from tests.tracing.conftest import Spans, own_process, spans

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncSession

    from kitmsg.bus.embedded import EmbeddedServer

__all__ = ["own_process", "spans"]

pytestmark = pytest.mark.anyio


class Placed(Event, subject="orders.placed.{order_id}"):
    order_id: str


class Shop(Service):
    """Adds an event to a transaction."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        self.sessions = sessions

    @endpoint
    async def place(self, order_id: str) -> str:
        async with self.sessions.begin() as session:
            return await outbox.add(session, Placed(order_id))


class Mailer(Service):
    def __init__(self) -> None:
        self.is_done = asyncio.Event()

    @subscribe(Placed)
    async def thank(self, event: Placed) -> None:
        self.is_done.set()


@pytest.fixture
def database() -> str:
    return "sqlite"


async def test_a_delivery_is_below_the_turn_that_added_its_event(
    spans: Spans, url: str, server: EmbeddedServer
) -> None:
    """Through the table and the relay, as if it had been published at once."""
    engine, mailer = create_async_engine(url), Mailer()
    async with kitmsg.connect(server.url, makes_streams=True) as kit:
        await kit.serve(mailer)
        await kit.serve(Shop(async_sessionmaker(engine)))
        async with relaying(engine, kit):
            made = await kit.client(Shop).place(order_id="A1")
            await asyncio.wait_for(mailer.is_done.wait(), 20)
    await engine.dispose()
    assert spans.tree() == [
        "client shop.place",
        "  server shop.place",
        "    producer create Placed",
        "      consumer process mailer.thank",
    ]
    created = spans.one("create Placed").attributes
    assert created["messaging.operation.name"] == "create"
    assert created["messaging.destination.name"] == "event.orders.placed.A1"
    assert created["messaging.destination.template"] == "event.orders.placed.{order_id}"
    assert created["messaging.message.id"] == made


async def test_what_cannot_be_added_is_an_error_of_its_span(
    spans: Spans, tmp_path: Path
) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/without-tables.db")
    async with async_sessionmaker(engine)() as session:
        with pytest.raises(Exception, match="no such table"):
            await outbox.add(session, Placed("A1"))
    await engine.dispose()
    assert spans.one("create Placed").status.status_code is StatusCode.ERROR
