"""Key-value buckets and streams on a cluster of three servers, one of which dies."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from kitmsg.bus.nats import NatsBus
from kitmsg.errors import Aborted
from kitmsg.jetstream import Bucket, ConsumerConfig, Outgoing, StreamConfig
from kitmsg.jetstream.api import Api
from kitmsg.jetstream.nats import NatsJetStream
from tests.jetstream.clusters import PASSES, leader, ready, three

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kitmsg.bus.embedded import EmbeddedServer
    from kitmsg.jetstream import KeyValue, Messages

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture(params=["nats"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def cluster() -> Iterator[dict[str, EmbeddedServer]]:
    """Three servers by name, of this test alone."""
    with three() as servers:
        yield servers


async def opened(bus: NatsBus, name: str) -> KeyValue:
    """Return a bucket on all three, once they have found each other."""
    options = Bucket(replicas=3, storage="memory", timeout=2.0)
    async with asyncio.timeout(60):
        while True:
            try:
                return await NatsJetStream(bus).key_value(name, options)
            except PASSES:
                await asyncio.sleep(0.1)


async def test_a_count_survives_the_death_of_its_leader(
    cluster: dict[str, EmbeddedServer],
) -> None:
    """No acknowledged step is lost, and a watch goes on to the last one."""
    bus = await NatsBus.connect(",".join(one.url for one in cluster.values()))
    bucket = await opened(bus, "count")
    await bucket.put("n", b"0")
    acknowledged = 0
    async with bucket.watch("n") as changes:
        for step in range(60):
            if step == 20:
                cluster[await leader(bus, "KV_count")].kill()
            acknowledged = await _add(bucket, acknowledged)
        value = b""
        async with asyncio.timeout(60):
            while value != b"60":
                value = (await anext(changes)).value
    assert acknowledged == 60
    assert (await bucket.get("n")).value == b"60"
    await bus.close()


async def _add(bucket: KeyValue, before: int) -> int:
    """Add one; an attempt without an answer may have done it, as the value tells."""
    async with asyncio.timeout(60):
        while True:
            try:
                entry = await bucket.get("n")
                assert int(entry.value) in (before, before + 1)
                if int(entry.value) == before:
                    more = str(before + 1).encode()
                    await bucket.update("n", more, entry.revision)
            except (*PASSES, Aborted):
                await asyncio.sleep(0.05)
            else:
                return before + 1


async def test_events_survive_the_death_of_a_leader(
    cluster: dict[str, EmbeddedServer],
) -> None:
    """None of those that were published, before, meanwhile or after, is lost.

    The leader of the stream dies, after the consumer's has stepped down.
    """
    bus = await NatsBus.connect(",".join(one.url for one in cluster.values()))
    await ready(bus)
    store = NatsJetStream(bus)
    config = StreamConfig(name="S", subjects=("s.>",), storage="memory", replicas=3)
    stream = await store.create_stream(config)
    consumer = await stream.create_consumer(ConsumerConfig(name="c", ack_wait=5))
    seen: set[bytes] = set()
    async with consumer.messages(buffer=50) as messages:
        reading = asyncio.ensure_future(_read(messages, seen, 600))
        for part in range(6):
            if part == 2:
                await Api(bus, 5.0).ask("CONSUMER.LEADER.STEPDOWN.S.c")
            if part == 4:
                cluster[await leader(bus, "S")].kill()
            numbers = range(100 * part, 100 * part + 100)
            sent = [Outgoing("s.a", b"%d" % i, message_id=f"m{i}") for i in numbers]
            await store.publish_many(sent, window=20, timeout=60)
        async with asyncio.timeout(60):
            await reading
    assert seen == {b"%d" % i for i in range(600)}
    assert (await stream.info()).messages == 600
    await bus.close()


async def _read(messages: Messages, seen: set[bytes], count: int) -> None:
    async for one in messages:
        try:
            one.ack()
        except PASSES:
            continue  # it comes again
        seen.add(one.data)
        if len(seen) == count:
            return
