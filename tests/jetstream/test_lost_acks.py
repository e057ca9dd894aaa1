"""Acknowledgements that are lost on the way, both ways, through a proxy that drops them."""

from __future__ import annotations

import asyncio
import os
import random
from typing import TYPE_CHECKING

import pytest

from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.bus.nats import NatsBus
from kitmsg.errors import KitError
from kitmsg.jetstream import ConsumerConfig, Outgoing, StreamConfig
from kitmsg.jetstream.nats import NatsJetStream
from tests.bus.proxy import Proxy

if TYPE_CHECKING:
    from kitmsg.jetstream import Consumer, Messages

EVENTS = 10_000 if os.environ.get("KITMSG_LONG") else 600

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60 + EVENTS / 10)]


@pytest.fixture(params=["nats"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_nothing_is_lost_and_nothing_is_stored_twice() -> None:
    """Of messages with ids, over a connection that again and again goes silent and breaks.

    Each is stored once, and handed out until its ack arrived.
    """
    with EmbeddedServer() as server:
        async with Proxy(int(server.url.rpartition(":")[2])) as proxy:
            bus = await NatsBus.connect(proxy.url, ping_interval=0.3)
            store = NatsJetStream(bus)
            stream = await store.create_stream(StreamConfig(name="S", subjects=("s",)))
            consumer = await stream.create_consumer(
                ConsumerConfig(name="c", ack_wait=2, max_ack_pending=200)
            )
            seen: set[bytes] = set()
            shaking = asyncio.ensure_future(shake(proxy, bus))
            async with (
                asyncio.timeout(EVENTS / 10),
                consumer.messages(buffer=50) as messages,
            ):
                reading = asyncio.ensure_future(read(messages, seen))
                await publish(store)
                shaking.cancel()
                proxy.drops_down = proxy.drops_up = False
                await reading
            async with asyncio.timeout(30):
                assert await floor(consumer) == EVENTS
            info = await stream.info()
            await bus.close()
    assert seen == {b"%d" % i for i in range(EVENTS)}
    assert (info.messages, info.last) == (EVENTS, EVENTS)


async def publish(store: NatsJetStream) -> None:
    """Publish all; a part whose time was up is sent again under its ids."""
    for start in range(0, EVENTS, 100):
        part = [
            Outgoing("s", b"%d" % i, message_id=f"m{i}")
            for i in range(start, start + 100)
        ]
        while True:
            try:
                await store.publish_many(part, window=20, timeout=5)
                break
            except KitError:
                await asyncio.sleep(0.05)


async def read(messages: Messages, seen: set[bytes]) -> None:
    async for one in messages:
        try:
            one.ack()
        except KitError:
            continue  # it comes again
        seen.add(one.data)
        if len(seen) == EVENTS:
            return


async def floor(consumer: Consumer) -> int:
    """Return how far all is acked, when nothing waits for an ack; ack what comes again."""
    while True:
        info = await consumer.info()
        if not info.ack_pending:
            return info.ack_floor
        for one in await consumer.fetch(100, 0.2):
            one.ack()


async def shake(proxy: Proxy, bus: NatsBus) -> None:
    """Drop what one side sends, or both, for a moment, then break the connection."""
    chance = random.Random(14)
    while True:
        await asyncio.sleep(chance.uniform(0.05, 0.2))
        proxy.drops_down = chance.random() < 0.7
        proxy.drops_up = not proxy.drops_down or chance.random() < 0.3
        await asyncio.sleep(chance.uniform(0.01, 0.1))
        # What was dropped leaves a hole in the stream of bytes: never mended, only broken.
        await bus.client.force_reconnect()
        proxy.drops_down = proxy.drops_up = False
