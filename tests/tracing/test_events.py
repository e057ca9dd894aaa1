"""Spans of events and tells: what is delivered is below what published it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from opentelemetry.trace import StatusCode

import kitmsg
from kitmsg import Event, Kit, Service, endpoint, subscribe
from kitmsg.bus.memory import MemoryBus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.tracing.conftest import Spans


class Placed(Event, subject="orders.placed.{order_id}"):
    order_id: str


class Shop(Service):
    """Publishes."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit

    @endpoint
    async def place(self, order_id: str) -> None:
        await self.kit.publish(Placed(order_id))


class Mailer(Service):
    """Handles, at the second attempt."""

    def __init__(self) -> None:
        self.attempts = 0
        self.is_done = asyncio.Event()

    @subscribe(Placed, retries=(0.05,))
    async def thank(self, event: Placed) -> None:
        self.attempts += 1
        if self.attempts == 1:
            raise RuntimeError("once")
        self.is_done.set()


@pytest.fixture
async def stored(own_process: None) -> AsyncIterator[Kit]:
    async with kitmsg.connect(bus=MemoryBus()) as kit:
        yield kit


async def test_deliveries_are_below_what_published(spans: Spans, stored: Kit) -> None:
    """Each attempt is a span, and one that failed is an error."""
    mailer = Mailer()
    await stored.serve(mailer)
    await stored.serve(Shop(stored))
    await stored.client(Shop).place(order_id="A1")
    async with asyncio.timeout(10):
        await mailer.is_done.wait()
    await asyncio.sleep(0.1)
    assert spans.tree() == [
        "client shop.place",
        "  server shop.place",
        "    producer send Placed",
        "      consumer process mailer.thank",
        "      consumer process mailer.thank",
    ]
    first, second = spans.named("process mailer.thank")
    assert first.status.status_code is StatusCode.ERROR
    assert second.status.status_code is StatusCode.UNSET
    assert second.attributes["messaging.system"] == "nats"
