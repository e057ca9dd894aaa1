"""FastStream and kitmsg on one stream, as `docs/events.md` promises to those who move."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from kitmsg import Event, Kit, Service, subscribe
from tests.require import miss

if TYPE_CHECKING:
    from kitmsg.bus.embedded import EmbeddedServer

pytestmark = pytest.mark.anyio


class Moved(Event, subject="moved.placed.{order_id}"):
    order_id: str
    cents: int


class Hears(Service):
    def __init__(self) -> None:
        self.got: asyncio.Queue[Moved] = asyncio.Queue()

    @subscribe(Moved)
    async def on(self, event: Moved) -> None:
        self.got.put_nowait(event)


@pytest.mark.parametrize("kind", ["nats"])
async def test_each_hears_what_the_other_publishes(
    kind: str, server: EmbeddedServer, kit: Kit
) -> None:
    try:
        from faststream.nats import JStream, NatsBroker
    except ImportError:
        miss("faststream is not installed: pip install --group test")
    hears = Hears()
    await kit.serve(hears)
    broker = NatsBroker(server.url, logger=None)
    stream = JStream("moved", declare=False)
    heard: asyncio.Queue[dict[str, object]] = asyncio.Queue()

    @broker.subscriber(
        "event.moved.placed.*", stream=stream, durable="theirs", pull_sub=True
    )
    async def on(message: dict[str, object]) -> None:
        heard.put_nowait(message)

    async with broker:
        await broker.start()
        subject = "event.moved.placed.A1"
        await broker.publish(
            {"order_id": "A1", "cents": 950}, subject, stream="moved", timeout=10
        )
        assert await hears.got.get() == Moved("A1", 950)
        assert await heard.get() == {"order_id": "A1", "cents": 950}
        await kit.publish(Moved("A2", 5))
        assert await hears.got.get() == Moved("A2", 5)
        assert await heard.get() == {"order_id": "A2", "cents": 5}
