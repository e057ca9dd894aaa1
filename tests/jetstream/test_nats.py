"""Key-value buckets on nats-server: other clients, restarts, and servers that cannot."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import nats
import pytest

from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.bus.memory import MemoryBus
from kitmsg.bus.nats import NatsBus
from kitmsg.errors import FailedPrecondition, NotFound, PermissionDenied, Unavailable
from kitmsg.jetstream import Bucket
from kitmsg.jetstream.nats import NatsJetStream
from kitmsg.wire import JS_API

if TYPE_CHECKING:
    from kitmsg.message import Message


@pytest.fixture(params=["nats"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_another_client_reads_and_writes_the_same(
    nats_server: EmbeddedServer, nats_bus: NatsBus
) -> None:
    """The bucket is one of NATS's, as nats-py sees it."""
    ours = await NatsJetStream(nats_bus).key_value("shared")
    await ours.put("a", b"1")
    other = await nats.connect(nats_server.url)
    theirs = await other.jetstream().key_value("shared")
    entry = await theirs.get("a")
    assert (entry.value, entry.revision) == (b"1", (await ours.get("a")).revision)
    await theirs.put("b", b"2")
    await theirs.delete("a")
    assert await ours.keys() == ["b"]
    await other.close()


async def test_a_bucket_somebody_made_without_times_takes_none(
    nats_server: EmbeddedServer, nats_bus: NatsBus
) -> None:
    """Values without a time to live are fine."""
    other = await nats.connect(nats_server.url)
    await other.jetstream().add_stream(
        name="KV_old", subjects=["$KV.old.>"], max_msgs_per_subject=1
    )
    await other.close()
    bucket = await NatsJetStream(nats_bus).key_value("old")
    await bucket.put("a", b"1")
    with pytest.raises(FailedPrecondition, match="TTL is disabled"):
        await bucket.put("a", b"1", ttl=5)


async def test_a_watch_outlives_a_restart_of_the_server() -> None:
    """It goes on from the last entry it saw, and misses none."""
    with EmbeddedServer() as server:
        bus = await NatsBus.connect(server.url)
        bucket = await NatsJetStream(bus).key_value("b")
        await bucket.put("a", b"1")
        async with asyncio.timeout(20), bucket.watch() as changes:
            assert (await anext(changes)).value == b"1"
            back = asyncio.Event()
            bus.watch(lambda up: back.set() if up else None)
            await asyncio.to_thread(server.restart)
            await back.wait()
            await bucket.put("a", b"2")
            assert (await anext(changes)).value == b"2"
        await bus.close()


async def test_a_watch_ends_with_its_bucket(nats_bus: NatsBus) -> None:
    """Once it finds out, after the connection was lost."""
    bucket = await NatsJetStream(nats_bus).key_value("doomed")
    async with asyncio.timeout(20), bucket.watch() as changes:
        await nats_bus.request(f"{JS_API}.STREAM.DELETE.KV_doomed", b"", 5)
        await nats_bus.client.force_reconnect()
        with pytest.raises(NotFound):
            await anext(changes)
    with pytest.raises(NotFound, match="the bucket doomed is gone"):
        await bucket.get("a")
    with pytest.raises(Unavailable, match="no stream takes the keys"):
        await bucket.put("a", b"")


async def test_consumers_of_watches_end_with_them(nats_bus: NatsBus) -> None:
    """Nothing is left on the server."""
    bucket = await NatsJetStream(nats_bus).key_value("clean")
    async with bucket.watch():
        assert (await _consumers(nats_bus, "clean")) == 1
    await bucket.keys()
    async with asyncio.timeout(10):
        while await _consumers(nats_bus, "clean"):  # it says nothing
            await asyncio.sleep(0.01)


async def _consumers(bus: NatsBus, bucket: str) -> int:
    reply = await bus.request(f"{JS_API}.STREAM.INFO.KV_{bucket}", b"", 5)
    return int(json.loads(reply.data)["state"]["consumer_count"])


async def test_a_server_without_a_store_is_a_sentence() -> None:
    """It says what to switch on."""
    with EmbeddedServer(jetstream=False) as server:
        bus = await NatsBus.connect(server.url)
        with pytest.raises(FailedPrecondition, match="JetStream is off on the NATS"):
            await NatsJetStream(bus).key_value("b")
        await bus.close()


async def test_an_account_without_a_store_is_a_sentence() -> None:
    """It says where to switch it on."""
    users = "accounts { A { users: [{user: a, password: a}] } }"
    with EmbeddedServer(config=users) as server:
        bus = await NatsBus.connect(server.url.replace("//", "//a:a@"))
        with pytest.raises(FailedPrecondition, match="JetStream is off for this acc"):
            await NatsJetStream(bus).key_value("b")
        await bus.close()


async def test_a_user_without_the_right_is_a_sentence() -> None:
    """It names the subject."""
    users = (
        "authorization { users: [{user: a, password: a,"
        ' permissions: {publish: {deny: "$JS.API.>"}}}] }'
    )
    with EmbeddedServer(config=users) as server:
        bus = await NatsBus.connect(server.url.replace("//", "//a:a@"))
        with pytest.raises(PermissionDenied, match=r"may not publish to '\$JS\.API"):
            await NatsJetStream(bus).key_value("b")
        await bus.close()


async def test_replicas_need_a_cluster(nats_bus: NatsBus) -> None:
    """The server's own sentence says so."""
    with pytest.raises(FailedPrecondition, match="not supported in non-clustered"):
        await NatsJetStream(nats_bus).key_value("three", Bucket(replicas=3))


async def test_an_old_server_is_a_sentence() -> None:
    """It names the version that is needed; the answers are those of nats-server 2.10."""
    bus = MemoryBus()
    answers = {
        "STREAM.INFO.KV_b": b'{"error":{"code":404,"err_code":10059,"description":""}}',
        "INFO": b'{"memory":0,"storage":0,"api":{"total":1,"errors":0}}',
    }

    def answer(message: Message) -> None:
        bus.publish(message.reply, answers[message.subject.removeprefix(f"{JS_API}.")])

    bus.subscribe(f"{JS_API}.>", answer)
    with pytest.raises(FailedPrecondition, match=r"nats-server 2\.11 or later"):
        await NatsJetStream(bus).key_value("b")
    await bus.close()


async def test_what_is_no_answer_is_an_error() -> None:
    """Somebody else who answers on the API's subjects does no harm."""
    bus = MemoryBus()
    bus.subscribe(f"{JS_API}.>", lambda m: bus.publish(m.reply, b"hello"))
    with pytest.raises(Exception, match="what is not JetStream's JSON"):
        await NatsJetStream(bus).key_value("b")
    await bus.close()
