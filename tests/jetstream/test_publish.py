"""What every store promises of publishing: one suite, on memory and on a real server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg.bus.memory import MemoryBus
from kitmsg.errors import (
    Aborted,
    Disconnected,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from kitmsg.jetstream import ConsumerConfig, Expect, Outgoing, Schedule, StreamConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kitmsg.bus import Bus
    from kitmsg.jetstream import JetStream, Stream


async def test_a_message_is_stored_when_it_returns(
    store: JetStream, stream: Stream, name: str
) -> None:
    """Bytes and headers as they were."""
    ack = await store.publish(f"{name}.a", b"\0\r\n", {"Kit-X": "1"})
    assert (ack.stream, ack.sequence, ack.duplicate) == (name, 1, False)
    found = await stream.get(1, fresh=True)
    assert (found.data, dict(found.headers)) == (b"\0\r\n", {"Kit-X": "1"})


async def test_an_id_is_stored_once(
    store: JetStream, stream: Stream, name: str
) -> None:
    """The second one is told the first one's place."""
    first = await store.publish(f"{name}.a", b"1", message_id="m")
    again = await store.publish(f"{name}.b", b"2", message_id="m")
    assert (again.sequence, again.duplicate) == (first.sequence, True)
    other = await store.publish(f"{name}.a", b"3", message_id="n")
    assert (other.sequence, other.duplicate) == (2, False)
    assert (await stream.info()).messages == 2


async def test_an_id_counts_as_long_as_the_window(store: JetStream, name: str) -> None:
    """Behind it, the same id is another message."""
    stream = await store.create_stream(
        StreamConfig(
            name=name, subjects=(name,), storage="memory", duplicate_window=0.2
        )
    )
    await store.publish(name, message_id="m")
    assert (await store.publish(name, message_id="m")).duplicate
    async with asyncio.timeout(10):
        while (await store.publish(name, message_id="m")).duplicate:
            await asyncio.sleep(0.05)
    assert (await stream.info()).messages == 2
    await store.delete_stream(name)


async def test_of_those_that_expect_the_same_one_is_stored(
    store: JetStream, stream: Stream, name: str
) -> None:
    """On one subject, however many race."""
    await store.publish(f"{name}.other")
    racing = [
        store.publish(f"{name}.a", b"%d" % i, expect=Expect(last_on_subject=0))
        for i in range(8)
    ]
    found = await asyncio.gather(*racing, return_exceptions=True)
    assert sum(isinstance(one, Aborted) for one in found) == 7
    last = (await stream.last(f"{name}.a")).sequence
    await store.publish(f"{name}.a", expect=Expect(last_on_subject=last))


@pytest.mark.parametrize(
    "wrong",
    [
        Expect(last=7),
        Expect(last_on_subject=7),
        Expect(last_on_subject=0),
        Expect(last_id="other"),
        Expect(stream="other"),
    ],
)
async def test_a_stream_in_another_state_refuses(
    store: JetStream, stream: Stream, name: str, kind: str, wrong: Expect
) -> None:
    """And stays as it is."""
    if kind == "cluster" and wrong.last_id:
        pytest.skip("nats-server 2.15 does not answer to a wrong last id in a cluster")
    await store.publish(f"{name}.a", message_id="m")
    with pytest.raises(Aborted):
        await store.publish(f"{name}.a", expect=wrong)
    assert (await stream.info()).messages == 1
    right = Expect(stream=name, last=1, last_on_subject=1, last_id="m")
    assert (await store.publish(f"{name}.a", expect=right)).sequence == 2


async def test_an_expectation_may_be_about_another_subject(
    store: JetStream, stream: Stream, name: str
) -> None:
    """Or many, by a pattern."""
    await store.publish(f"{name}.a.1")
    await store.publish(f"{name}.a.2")
    await store.publish(f"{name}.b")
    about = f"{name}.a.*"
    ok = Expect(last_on_subject=2, subject=about)
    await store.publish(f"{name}.a.3", expect=ok)
    with pytest.raises(Aborted, match="wrong last sequence"):
        await store.publish(f"{name}.a.4", expect=ok)


async def test_many_are_stored_in_order(
    store: JetStream, stream: Stream, name: str
) -> None:
    """With their acknowledgements; more than fit into the window."""
    messages = [
        Outgoing(f"{name}.a", b"%d" % i, message_id=f"m{i}") for i in range(100)
    ]
    acks = await store.publish_many(iter(messages), window=7)
    assert [ack.sequence for ack in acks] == list(range(1, 101))
    again = await store.publish_many(messages)
    assert all(ack.duplicate for ack in again)
    assert [one.data async for one in stream.read()] == [m.data for m in messages]
    assert await store.publish_many([]) == []


async def test_the_first_error_of_many_is_raised(
    store: JetStream, stream: Stream, name: str
) -> None:
    """Nothing is sent any more; what was stored before stays."""
    bad = Outgoing(f"{name}.a", expect=Expect(last=99))
    seen: list[int] = []

    def messages() -> Iterator[Outgoing]:
        for i in range(1000):
            seen.append(i)
            yield bad if i == 3 else Outgoing(f"{name}.a")

    with pytest.raises(Aborted, match="wrong last sequence"):
        await store.publish_many(messages(), window=2)
    assert len(seen) < 20
    assert (await stream.info()).messages >= 3
    with pytest.raises(Unavailable, match="no stream takes 'nowhere'"):
        await store.publish_many([Outgoing("nowhere")])


async def test_a_batch_is_stored_whole(
    store: JetStream, stream: Stream, name: str
) -> None:
    """One behind the other, with one acknowledgement."""
    ack = await store.publish_batch(
        [Outgoing(f"{name}.{token}", b"%d" % i) for i, token in enumerate("aba")]
    )
    assert (ack.stream, ack.sequence) == (name, 3)
    assert [one.data async for one in stream.read()] == [b"0", b"1", b"2"]
    assert (await store.publish_batch([Outgoing(f"{name}.a")])).sequence == 4


async def test_a_batch_that_no_stream_takes_is_refused(
    store: JetStream, name: str
) -> None:
    """With the sentence that a single message gets."""
    batch = [Outgoing(f"{name}.a"), Outgoing(f"{name}.b")]
    with pytest.raises(Unavailable, match=f"no stream takes '{name}.a': make one"):
        await store.publish_batch(batch)


async def test_a_batch_of_which_one_is_refused_is_not_stored(
    store: JetStream, stream: Stream, name: str
) -> None:
    """None of it."""
    batch = [
        Outgoing(f"{name}.a", b"1"),
        Outgoing(f"{name}.b", b"2", expect=Expect(last_on_subject=9)),
        Outgoing(f"{name}.c", b"3"),
    ]
    with pytest.raises(Aborted):
        await store.publish_batch(batch)
    assert (await stream.info()).messages == 0
    with pytest.raises(InvalidArgument, match="1 to 1000"):
        await store.publish_batch([])


async def test_a_subject_without_a_stream_is_a_sentence(store: JetStream) -> None:
    """It says what to do."""
    with pytest.raises(Unavailable, match="no stream takes 'nowhere.at.all': make one"):
        await store.publish("nowhere.at.all", b"")


async def test_a_full_stream_refuses_and_loses_nothing(
    store: JetStream, name: str
) -> None:
    """Where it discards what is new."""
    stream = await store.create_stream(
        StreamConfig(
            name=name, subjects=(name,), storage="memory", max_messages=2, discard="new"
        )
    )
    await store.publish(name, b"1")
    await store.publish(name, b"2")
    with pytest.raises(ResourceExhausted, match="maximum messages exceeded"):
        await store.publish(name, b"3")
    assert [one.data async for one in stream.read()] == [b"1", b"2"]
    await stream.delete(1)
    assert (await store.publish(name, b"3")).sequence == 3
    await store.delete_stream(name)


@pytest.mark.parametrize(
    ("limit", "left"),
    [
        ({"max_messages": 3}, [b"3", b"4", b"5"]),
        ({"max_bytes": 130}, [b"4", b"5"]),
        ({"max_per_subject": 2}, [b"2", b"3", b"4", b"5"]),
    ],
)
async def test_a_full_stream_drops_the_oldest(
    store: JetStream, name: str, limit: dict[str, Any], left: list[bytes]
) -> None:
    """By number, bytes, or messages of a subject."""
    config = StreamConfig(name=name, subjects=(f"{name}.*",), storage="memory", **limit)
    stream = await store.create_stream(config)
    for i in range(6):
        await store.publish(f"{name}.{'ab'[i % 2]}", b"%d" % i, {"X": "y" * 10})
    found = [one.data async for one in stream.read()]
    assert found == left
    await store.delete_stream(name)


async def test_a_subject_may_keep_what_it_has(store: JetStream, name: str) -> None:
    """One message for each, the next one refused, until it is gone."""
    stream = await store.create_stream(
        StreamConfig(
            name=name,
            subjects=(f"{name}.*",),
            storage="memory",
            max_per_subject=1,
            discard="new",
            discard_per_subject=True,
        )
    )
    await store.publish(f"{name}.a", b"1")
    await store.publish(f"{name}.b", b"2")
    with pytest.raises(ResourceExhausted, match="per subject exceeded"):
        await store.publish(f"{name}.a", b"3")
    await stream.delete(1)
    await store.publish(f"{name}.a", b"3")
    await store.delete_stream(name)


async def test_a_message_over_the_limit_is_refused(store: JetStream, name: str) -> None:
    """The stream's limit, and the bus's."""
    config = StreamConfig(
        name=name, subjects=(name,), storage="memory", max_message_bytes=100
    )
    await store.create_stream(config)
    with pytest.raises(InvalidArgument, match="exceeds maximum allowed"):
        await store.publish(name, b"x" * 101)
    with pytest.raises(InvalidArgument, match="bytes"):
        await store.publish(name, b"x" * (2 << 20))
    await store.delete_stream(name)


@pytest.mark.parametrize("subject", ["", "a b", "a..b", "a.*", "a.>", "a\r\nb"])
async def test_a_subject_that_is_none_is_refused(
    store: JetStream, subject: str
) -> None:
    """Before anything is sent."""
    with pytest.raises(InvalidArgument):
        await store.publish(subject, b"")


async def test_a_time_to_live_ends(store: JetStream, stream: Stream, name: str) -> None:
    """Of that message alone, never too early."""
    await store.publish(f"{name}.a", b"1", ttl=1)
    await store.publish(f"{name}.b", b"2")
    stored = (await stream.get(1)).time
    async with asyncio.timeout(10):
        while True:
            try:
                await stream.get(1, fresh=True)
            except NotFound:
                break
            await asyncio.sleep(0.05)
    assert store.now() - stored >= 1 - 0.05
    assert (await stream.get(2)).data == b"2"
    with pytest.raises(ValueError, match="positive"):
        await store.publish(f"{name}.a", ttl=0)


async def test_an_age_ends(store: JetStream, name: str) -> None:
    """Of all messages."""
    stream = await store.create_stream(
        StreamConfig(name=name, subjects=(name,), storage="memory", max_age=0.3)
    )
    await store.publish(name)
    async with asyncio.timeout(10):
        while (await stream.info()).messages:
            await asyncio.sleep(0.05)
    await store.delete_stream(name)


async def test_what_a_stream_was_not_made_for_is_a_sentence(
    store: JetStream, name: str
) -> None:
    """Times to live, schedules and batches have to be allowed."""
    await store.create_stream(
        StreamConfig(name=name, subjects=(f"{name}.>",), storage="memory")
    )
    later = Schedule.at(store.now() + 60, f"{name}.b")
    for publishing, text in (
        (store.publish(f"{name}.a", ttl=5), "TTL is disabled"),
        (store.publish(f"{name}.a", schedule=later), "schedules is disabled"),
        (store.publish_batch([Outgoing(f"{name}.a")]), "atomic publish is disabled"),
        (store.publish(f"{name}.a", headers={"Nats-Rollup": "sub"}), "not permitted"),
    ):
        with pytest.raises(FailedPrecondition, match=text):
            await publishing
    await store.delete_stream(name)


async def test_a_rollup_replaces_what_was_before(store: JetStream, name: str) -> None:
    """On its subject, where the stream allows it."""
    stream = await store.create_stream(
        StreamConfig(
            name=name, subjects=(f"{name}.>",), storage="memory", allow_rollup=True
        )
    )
    await store.publish_many(Outgoing(f"{name}.{token}") for token in "aba")
    await store.publish(f"{name}.a", b"sum", {"Nats-Rollup": "sub"})
    assert [one.sequence async for one in stream.read()] == [2, 4]
    await store.delete_stream(name)


async def test_messages_of_the_bus_are_stored_too(
    store: JetStream, stream: Stream, bus: Bus, name: str
) -> None:
    """From those who know nothing of JetStream; and subscribers hear what is stored."""
    heard: list[bytes] = []
    subscription = bus.subscribe(
        f"{name}.>", lambda message: heard.append(message.data)
    )
    bus.publish(f"{name}.a", b"1")
    await bus.flush()
    await store.publish(f"{name}.a", b"2")
    await bus.flush()
    subscription.unsubscribe()
    assert heard == [b"1", b"2"]
    assert [one.data async for one in stream.read()] == [b"1", b"2"]


async def test_interest_keeps_what_somebody_awaits(store: JetStream, name: str) -> None:
    """Nothing without a consumer, and nothing that every one has acked."""
    stream = await store.create_stream(
        StreamConfig(
            name=name, subjects=(f"{name}.*",), storage="memory", retention="interest"
        )
    )
    assert (await store.publish(f"{name}.a", b"0")).sequence == 1
    one = await stream.create_consumer(ConsumerConfig(name="one"))
    two = await stream.create_consumer(
        ConsumerConfig(name="two", filters=(f"{name}.b",))
    )
    await store.publish(f"{name}.a", b"1")
    await store.publish(f"{name}.b", b"2")
    assert (await stream.info()).messages == 2
    for delivery in await one.fetch(2):
        await delivery.ack_confirmed()
    await has(stream, 1)
    assert (await stream.last(">", fresh=True)).data == b"2"
    for delivery in await two.fetch(1):
        await delivery.ack_confirmed()
    await has(stream, 0)
    await store.delete_stream(name)


async def has(stream: Stream, count: int) -> None:
    """Return when it has so many messages: acks take a moment in a cluster."""
    async with asyncio.timeout(10):
        while (await stream.info()).messages != count:
            await asyncio.sleep(0.01)


async def test_a_work_queue_gives_each_message_to_one(
    store: JetStream, name: str
) -> None:
    """What is acked is gone; consumers that would share messages are refused."""
    stream = await store.create_stream(
        StreamConfig(
            name=name, subjects=(f"{name}.*",), storage="memory", retention="workqueue"
        )
    )
    await store.publish(f"{name}.a", b"1")
    await store.publish(f"{name}.b", b"2")
    worker = await stream.create_consumer(
        ConsumerConfig(name="a", filters=(f"{name}.a",))
    )
    with pytest.raises(FailedPrecondition, match="not unique"):
        await stream.create_consumer(ConsumerConfig(name="x", filters=(f"{name}.a",)))
    with pytest.raises(FailedPrecondition, match="non-filtered"):
        await stream.create_consumer(ConsumerConfig(name="x"))
    for delivery in await worker.fetch(1):
        await delivery.ack_confirmed()
    await has(stream, 1)
    assert (await stream.last(">", fresh=True)).data == b"2"
    await store.delete_stream(name)


async def test_without_a_connection_nothing_waits(
    store: JetStream, stream: Stream, bus: Bus, name: str
) -> None:
    """It is an error at once, also for a message with an id; nothing is sent later."""
    if not isinstance(bus, MemoryBus):
        pytest.skip("a real connection is cut in test_messages.py")
    bus.disconnect()
    with pytest.raises(Disconnected):
        await store.publish(f"{name}.a", message_id="m")
    with pytest.raises(Disconnected):
        await store.publish_many([Outgoing(f"{name}.a")])
    bus.reconnect()
    assert (await stream.info()).messages == 0
