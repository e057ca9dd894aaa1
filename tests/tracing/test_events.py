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
    assert second.attributes["messaging.consumer.group.name"] == "mailer.thank"
    sent = spans.one("send Placed").attributes
    assert sent["messaging.destination.name"] == "event.orders.placed.A1"
    assert sent["messaging.destination.template"] == "event.orders.placed.{order_id}"
    assert sent["messaging.operation.name"] == "send"
    assert sent["messaging.message.id"]


async def test_events_that_are_published_together_are_one_span(
    spans: Spans, stored: Kit
) -> None:
    """With their number; each one's delivery is below it."""
    mailer = Mailer()
    mailer.attempts = 1
    await stored.serve(mailer)
    await stored.publish_many([Placed("A1"), Placed("A2")])
    async with asyncio.timeout(10):
        while len(spans.named("process mailer.thank")) < 2:
            await asyncio.sleep(0.01)
    assert spans.tree() == [
        "producer send Placed",
        "  consumer process mailer.thank",
        "  consumer process mailer.thank",
    ]
    attributes = spans.one("send Placed").attributes
    assert attributes["messaging.batch.message_count"] == 2


async def test_a_tell_is_sent_and_processed(spans: Spans, stored: Kit) -> None:
    """As an event is: a producer's span, and below it each attempt."""

    class Clerk(Service):
        @endpoint(durable=True)
        async def file(self, paper: str) -> None: ...

    await stored.serve(Clerk())
    await stored.tell(Clerk).file("deed")
    async with asyncio.timeout(10):
        while not spans.named("process clerk.file"):
            await asyncio.sleep(0.01)
    assert spans.tree() == [
        "producer send clerk.file",
        "  consumer process clerk.file",
    ]
    sent = spans.one("send clerk.file").attributes
    assert sent["messaging.destination.name"] == "tell.clerk.file"
