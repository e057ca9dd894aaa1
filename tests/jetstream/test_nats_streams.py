"""Streams on nats-server: other clients, restarts, and servers that cannot."""

from __future__ import annotations

import asyncio
import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import nats
import pytest
from nats.js.api import RePublish

from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.bus.memory import MemoryBus
from kitmsg.bus.nats import NatsBus
from kitmsg.errors import FailedPrecondition, PermissionDenied
from kitmsg.jetstream import (
    ConsumerConfig,
    JetStream,
    Outgoing,
    Schedule,
    StreamConfig,
)
from kitmsg.jetstream.api import Api
from kitmsg.jetstream.consumer import Consumer
from kitmsg.jetstream.nats import NatsJetStream
from kitmsg.jetstream.opening import jetstream_of
from kitmsg.jetstream.source import Pace
from kitmsg.message import Message
from kitmsg.testing.loop import VirtualTimeLoop
from kitmsg.wire import JS_API

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kitmsg.jetstream import Messages


@pytest.fixture(params=["nats"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_another_client_reads_and_writes_the_same(
    nats_server: EmbeddedServer, nats_bus: NatsBus, name: str
) -> None:
    """Streams, consumers and acks are NATS's, as nats-py sees them."""
    store = NatsJetStream(nats_bus)
    config = StreamConfig(name=name, subjects=(f"{name}.>",), storage="memory")
    stream = await store.create_stream(config)
    consumer = await stream.create_consumer(ConsumerConfig(name="c"))
    other = await nats.connect(nats_server.url)
    theirs = other.jetstream()
    await store.publish(f"{name}.a", b"ours", {"X": "y"})
    await theirs.publish(f"{name}.a", b"theirs")
    shared = await theirs.pull_subscribe_bind(consumer="c", stream=name)
    (first,) = await shared.fetch(1)
    assert (first.data, first.headers) == (b"ours", {"X": "y"})
    await first.ack()
    (second,) = await consumer.fetch(1)
    assert second.data == b"theirs"
    await other.close()


async def test_an_update_keeps_what_others_have_set(
    nats_server: EmbeddedServer, nats_bus: NatsBus, name: str
) -> None:
    """Options that we have no name for."""
    other = await nats.connect(nats_server.url)
    await other.jetstream().add_stream(
        name=name, subjects=[f"{name}.>"], republish=RePublish(">", f"copy.{name}.>")
    )
    store = NatsJetStream(nats_bus)
    config = (await (await store.stream(name)).info()).config
    await store.update_stream(StreamConfig(**_fields(config) | {"max_messages": 9}))
    found = await other.jetstream().stream_info(name)
    assert found.config.max_msgs == 9
    assert found.config.republish is not None
    await other.close()


def _fields(config: StreamConfig) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in fields(config)}


async def test_reading_outlives_a_restart_of_the_server() -> None:
    """Nothing that was acknowledged is lost, and the reader goes on by itself."""
    with EmbeddedServer() as server:
        bus = await NatsBus.connect(server.url)
        store = NatsJetStream(bus)
        stream = await store.create_stream(StreamConfig(name="S", subjects=("s",)))
        consumer = await stream.create_consumer(ConsumerConfig(name="c", ack_wait=1))
        await store.publish_many(Outgoing("s", b"%d" % i) for i in range(100))
        seen: set[bytes] = set()
        async with asyncio.timeout(30), consumer.messages(buffer=10) as messages:
            back = asyncio.Event()
            bus.watch(lambda is_up: back.set() if is_up else None)
            restarting: asyncio.Future[None] | None = None
            async for one in messages:
                if len(seen) == 50 and restarting is None:
                    restarting = asyncio.ensure_future(
                        asyncio.to_thread(server.restart)
                    )
                    await back.wait()
                if bus.is_connected:
                    one.ack()
                    seen.add(one.data)
                if len(seen) == 100:
                    break
        assert (await stream.info()).messages == 100
        await bus.close()


async def test_a_server_without_a_store_is_a_sentence() -> None:
    """It says what to switch on."""
    with EmbeddedServer(jetstream=False) as server:
        bus = await NatsBus.connect(server.url)
        store = NatsJetStream(bus)
        with pytest.raises(FailedPrecondition, match="JetStream is off on the NATS"):
            await store.create_stream(StreamConfig(name="S", subjects=("s",)))
        await bus.close()


async def test_a_user_without_the_right_is_a_sentence() -> None:
    """To make a stream, and to publish."""
    users = (
        "authorization { users: [{user: a, password: a, permissions: {publish:"
        ' {deny: ["$JS.API.STREAM.CREATE.>", "s.no"]}}}] }'
    )
    with EmbeddedServer(config=users) as server:
        bus = await NatsBus.connect(server.url.replace("//", "//a:a@"))
        store = NatsJetStream(bus)
        with pytest.raises(PermissionDenied, match=r"STREAM\.CREATE\.S'"):
            await store.create_stream(StreamConfig(name="S", subjects=("s.>",)))
        with pytest.raises(PermissionDenied, match=r"may not publish to 's\.no'"):
            await store.publish("s.no", b"")
        await bus.close()


RIGHTS = {
    "publish": ["s.a", "$JS.API.INFO", "$JS.API.STREAM.NAMES"],
    "consume": [
        "$JS.API.STREAM.INFO.S",
        "$JS.API.CONSUMER.CREATE.S.c",
        "$JS.API.CONSUMER.INFO.S.c",
        "$JS.API.CONSUMER.MSG.NEXT.S.c",
        "$JS.ACK.S.c.>",
    ],
    "follow": [
        "$JS.API.STREAM.INFO.S",
        "$JS.API.CONSUMER.CREATE.S.*",
        "$JS.API.CONSUMER.*.S.*",
        "$JS.API.CONSUMER.MSG.NEXT.S.*",
    ],
    "read": [
        "$JS.API.INFO",
        "$JS.API.STREAM.INFO.S",
        "$JS.API.DIRECT.GET.S",
        "$JS.API.STREAM.MSG.GET.S",
    ],
}


async def test_the_rights_of_the_page_are_enough() -> None:
    """For each use, a user who may do nothing else."""
    users = ", ".join(
        f"{{user: {user}, password: x, permissions: {{publish: {json.dumps(may)},"
        ' subscribe: "_INBOX.>"}}'
        for user, may in RIGHTS.items()
    )
    everybody = f"authorization {{ users: [{{user: all, password: x}}, {users}] }}"
    with EmbeddedServer(config=everybody) as server:
        buses = {
            user: await NatsBus.connect(server.url.replace("//", f"//{user}:x@"))
            for user in ("all", *RIGHTS)
        }
        stores = {user: NatsJetStream(bus) for user, bus in buses.items()}
        config = StreamConfig(name="S", subjects=("s.>",), allow_ttl=True)
        await stores["all"].create_stream(config)
        await stores["publish"].publish("s.a", b"1", ttl=60, message_id="m")
        stream = await stores["consume"].stream("S")
        consumer = await stream.create_consumer(ConsumerConfig(name="c"))
        (message,) = await consumer.fetch(1)
        await message.ack_confirmed()
        async with (await stores["follow"].stream("S")).follow() as log:
            assert (await anext(log)).data == b"1"
        reading = await stores["read"].stream("S")
        assert [one.data async for one in reading.read()] == [b"1"]
        assert (await reading.get(1, fresh=True)).data == b"1"
        for bus in buses.values():
            await bus.close()


async def _ack_all(messages: Messages) -> None:
    async for message in messages:
        message.ack()


@pytest.mark.parametrize(
    ("may_not", "text"),
    [
        (
            "$JS.API.CONSUMER.MSG.NEXT.>",
            r"publish to '\$JS\.API\.CONSUMER\.MSG\.NEXT\.S\.c'",
        ),
        ("$JS.ACK.>", r"publish to '\$JS\.ACK\.S\.c\.>'"),
    ],
)
async def test_a_reader_without_the_right_ends_with_a_sentence(
    may_not: str, text: str
) -> None:
    """Not in silence: to pull, and to ack."""
    users = (
        "authorization { users: [{user: all, password: x}, {user: a, password: x,"
        f' permissions: {{publish: {{deny: "{may_not}"}}}}}}] }}'
    )
    with EmbeddedServer(config=users) as server:
        free = await NatsBus.connect(server.url.replace("//", "//all:x@"))
        store = NatsJetStream(free)
        stream = await store.create_stream(StreamConfig(name="S", subjects=("s",)))
        await stream.create_consumer(ConsumerConfig(name="c"))
        await store.publish_many([Outgoing("s")] * 3)
        bus = await NatsBus.connect(server.url.replace("//", "//a:x@"))
        consumer = await (await NatsJetStream(bus).stream("S")).consumer("c")
        async with asyncio.timeout(10), consumer.messages(buffer=1) as messages:
            with pytest.raises(PermissionDenied, match=text):
                await _ack_all(messages)
        await bus.close()
        await free.close()


async def test_a_consumer_that_pushes_cannot_be_read(
    nats_bus: NatsBus, name: str
) -> None:
    """It is an error that says so, not silence."""
    store = NatsJetStream(nats_bus)
    stream = await store.create_stream(
        StreamConfig(name=name, subjects=(name,), storage="memory")
    )
    config = {"name": "p", "durable_name": "p", "deliver_subject": f"to.{name}"}
    await Api(nats_bus, 5.0).ask(
        f"CONSUMER.CREATE.{name}.p", {"stream_name": name, "config": config}
    )
    consumer = await stream.consumer("p")
    async with asyncio.timeout(10):
        with pytest.raises(FailedPrecondition, match="refuses pulls: .*push based"):
            await consumer.fetch(1)
        async with consumer.messages() as messages:
            with pytest.raises(FailedPrecondition, match="refuses pulls"):
                await anext(messages)


FEATURES: list[tuple[int, str, Callable[[JetStream], Awaitable[object]]]] = [
    (0, "2.11", lambda js: js.publish("s", ttl=1)),
    (0, "2.11", lambda js: js.create_stream(StreamConfig(name="S", allow_ttl=True))),
    (1, "2.12", lambda js: js.publish("s", schedule=Schedule.at(0, "t"))),
    (1, "2.12", lambda js: js.publish_batch([Outgoing("s")])),
    (1, "2.12", lambda js: js.create_stream(StreamConfig(name="S", allow_atomic=True))),
    (
        1,
        "2.12",
        lambda js: js.create_stream(StreamConfig(name="S", allow_schedules=True)),
    ),
    (2, "2.14", lambda js: js.publish("s", schedule=Schedule.every(1, "t"))),
    (3, "2.14", lambda js: js.publish("s", schedule=Schedule.cron("@daily", "t"))),
]


@pytest.mark.parametrize(("level", "version", "use"), FEATURES)
async def test_an_old_server_is_a_sentence(
    level: int, version: str, use: Callable[[JetStream], Awaitable[object]]
) -> None:
    """It names the version and what needs it; nothing is sent that it would not heed."""
    bus = MemoryBus()
    asked: list[str] = []

    def answer(message: Message) -> None:
        asked.append(message.subject)
        bus.publish(message.reply, b'{"api":{"level":%d}}' % level)

    bus.subscribe(">", lambda m: answer(m) if m.reply else None)
    needs = rf"nats-server {version}".replace(".", r"\.")
    with pytest.raises(FailedPrecondition, match=f"{needs} or later"):
        await use(NatsJetStream(bus))
    assert asked == [f"{JS_API}.INFO"]
    await bus.close()


@pytest.mark.parametrize(
    ("speaks", "seconds", "expected"),
    [
        (False, 11, ["MSG.NEXT.S.c", "INFO.S.c", "MSG.NEXT.S.c"]),
        # A look how far all is acked, some time after a message, is no sign of life.
        (True, 16, ["MSG.NEXT.S.c", "INFO.S.c", "INFO.S.c", "MSG.NEXT.S.c"]),
    ],
)
def test_a_silent_consumer_is_asked_again(
    speaks: bool, seconds: float, expected: list[str]
) -> None:
    """When no sign of life came for two heartbeats: a look whether it is there, a pull."""

    async def main() -> list[str]:
        bus = MemoryBus()
        asked: list[str] = []
        config = {"name": "c", "durable_name": "c"}
        info = {
            "stream_name": "S",
            "config": config,
            "created": "2026-01-01T00:00:00Z",
            "delivered": {"stream_seq": 0, "consumer_seq": 0},
            "ack_floor": {"stream_seq": 0, "consumer_seq": 0},
            **dict.fromkeys(
                ("num_ack_pending", "num_redelivered", "num_pending", "num_waiting"), 0
            ),
        }

        def answer(message: Message) -> None:
            asked.append(message.subject.removeprefix(f"{JS_API}.CONSUMER."))
            if "INFO" in message.subject:
                bus.publish(message.reply, json.dumps(info).encode())
            elif speaks and len(asked) == 1:
                bus.hand(message.reply, Message("s", b"", "$JS.ACK.S.c.1.1.1.1.0"))

        bus.subscribe(f"{JS_API}.CONSUMER.>", answer)
        api = Api(bus, 5.0)
        consumer = Consumer(api, "S", ConsumerConfig(name="c"), Pace(), 0)
        async with consumer.messages():
            await asyncio.sleep(seconds)
        await bus.close()
        return asked

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(main()) == expected


def test_an_idle_reader_in_memory_has_nothing_to_do() -> None:
    """So a test that waits for ever is told so, and a clock jumps over years at once."""

    async def main() -> None:
        bus = MemoryBus()
        store = jetstream_of(bus)
        stream = await store.create_stream(StreamConfig(name="S", subjects=("s",)))
        consumer = await stream.create_consumer(ConsumerConfig(name="c"))
        async with consumer.messages() as messages:
            await asyncio.sleep(50 * 365 * 86400)
            await store.publish("s")
            (await anext(messages)).ack()
            await anext(messages)

    with (
        asyncio.Runner(loop_factory=VirtualTimeLoop) as runner,
        pytest.raises(RuntimeError, match="deadlock"),
    ):
        runner.run(main())
