"""What every store promises of consumers: one suite, on memory and on a real server."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg.bus.memory import MemoryBus
from kitmsg.errors import AlreadyExists, InvalidArgument, NotFound
from kitmsg.jetstream import ConsumerConfig, Delivery, Outgoing, Position
from kitmsg.message import Message

if TYPE_CHECKING:
    from kitmsg.jetstream import Consumer, JetStream, Stream


async def fill(store: JetStream, name: str, tokens: str) -> None:
    """Store a message on each of the subjects below `name`, numbered from 1."""
    await store.publish_many(
        Outgoing(f"{name}.{token}", b"%d" % i) for i, token in enumerate(tokens, 1)
    )


def numbers(deliveries: list[Delivery]) -> list[int]:
    """Return their sequences."""
    return [one.sequence for one in deliveries]


async def waiting(consumer: Consumer, count: int) -> None:
    """Wait for so many messages to wait: in a cluster its server may be behind."""
    async with asyncio.timeout(20):
        while (await consumer.info()).pending < count:
            await asyncio.sleep(0.01)


async def got(consumer: Consumer, count: int) -> list[Delivery]:
    """Return so many messages, however long they take."""
    found: list[Delivery] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            found += await consumer.fetch(count - len(found), 1.0)
    return found


async def test_messages_come_in_order_with_their_places(
    store: JetStream, stream: Stream, name: str
) -> None:
    """Subject, payload, headers, and where each stands."""
    await fill(store, name, "ab")
    await store.publish(f"{name}.c", b"3", {"X": "y"})
    consumer = await stream.create_consumer(ConsumerConfig(name="c"))
    found = await consumer.fetch(3)
    assert [(one.subject, one.data) for one in found] == [
        (f"{name}.a", b"1"),
        (f"{name}.b", b"2"),
        (f"{name}.c", b"3"),
    ]
    assert dict(found[2].headers) == {"X": "y"}
    place = found[1].position
    assert (place.stream, place.consumer) == (name, "c")
    assert (place.sequence, place.consumer_sequence, place.deliveries) == (2, 2, 1)
    assert place.pending == 1
    assert abs(place.time - store.now()) < 10
    assert place.time == pytest.approx((await stream.get(2)).time, abs=1e-5)


@pytest.mark.parametrize(
    "reply",
    ["$JS.ACK.S.c.2.7.9.1500000000.4", "$JS.ACK.hub.Ab3.S.c.2.7.9.1500000000.4.x7"],
)
async def test_a_place_is_told_by_the_subject_of_the_acks(reply: str) -> None:
    """With a domain and an account, or without; whole, or at a glance."""
    found = Delivery(Message("a", b"", reply), MemoryBus())
    assert found.glance() == (2, 1.5, 4)
    assert (found.deliveries, found.time, found.sequence) == (2, 1.5, 7)
    assert found.position == Position("S", "c", 2, 7, 9, 1.5, 4)


async def test_a_fetch_ends_with_what_is_there(
    store: JetStream, stream: Stream, name: str
) -> None:
    """At once, or when its time is up."""
    consumer = await stream.create_consumer(ConsumerConfig(name="c"))
    loop = asyncio.get_running_loop()
    started = loop.time()
    assert await consumer.fetch(5, 0.0) == []
    await fill(store, name, "aaa")
    await waiting(consumer, 3)
    assert numbers(await consumer.fetch(5, 0.0)) == [1, 2, 3]
    assert loop.time() - started < 5
    await fill(store, name, "a")
    started = loop.time()
    assert numbers(await consumer.fetch(5, 0.3)) == [4]
    assert loop.time() - started >= 0.25
    with pytest.raises(InvalidArgument, match="1 message or more"):
        await consumer.fetch(0)


async def test_fetches_at_once_share_the_messages(
    store: JetStream, stream: Stream, name: str
) -> None:
    """None gets the other's."""
    await fill(store, name, "a" * 20)
    consumer = await stream.create_consumer(ConsumerConfig(name="c"))
    parts = await asyncio.gather(*(consumer.fetch(5) for _ in range(4)))
    assert sorted(n for part in parts for n in numbers(part)) == list(range(1, 21))


async def test_what_is_acked_does_not_come_again(
    store: JetStream, stream: Stream, name: str
) -> None:
    """And the consumer knows how far everybody is."""
    await fill(store, name, "aaaa")
    consumer = await stream.create_consumer(ConsumerConfig(name="c", ack_wait=0.5))
    found = await consumer.fetch(3)
    await found[0].ack_confirmed()
    found[1].ack()
    found[1].ack()  # does nothing
    assert found[1].is_settled
    async with asyncio.timeout(5):
        while (await consumer.info()).ack_floor < 2:
            await asyncio.sleep(0.01)
    info = await consumer.info()
    assert (info.delivered, info.ack_floor, info.ack_pending, info.pending) == (
        3,
        2,
        1,
        1,
    )
    assert numbers(await got(consumer, 2)) == [4, 3]
    assert (await consumer.info()).redelivered == 1


async def test_what_is_not_acked_comes_again(
    store: JetStream, stream: Stream, name: str
) -> None:
    """After the ack wait, counted; never before."""
    await fill(store, name, "a")
    consumer = await stream.create_consumer(ConsumerConfig(name="c", ack_wait=0.4))
    loop = asyncio.get_running_loop()
    started = loop.time()
    assert (await consumer.fetch(1))[0].deliveries == 1
    assert (await got(consumer, 1))[0].deliveries == 2
    assert loop.time() - started >= 0.35
    assert (await got(consumer, 1))[0].deliveries == 3


async def test_backoff_says_when_it_comes_again(
    store: JetStream, stream: Stream, name: str
) -> None:
    """A step for each delivery, the last one for all others."""
    await fill(store, name, "a")
    config = ConsumerConfig(name="c", backoff=(0.2, 0.6), max_deliver=4)
    consumer = await stream.create_consumer(config)
    loop = asyncio.get_running_loop()
    started = loop.time()
    await consumer.fetch(1)
    for earliest in (0.15, 0.75, 1.35):
        await got(consumer, 1)
        assert loop.time() - started >= earliest
    assert await consumer.fetch(1, 1.0) == []  # it was delivered four times


async def test_a_message_is_delivered_so_often_and_no_more(
    store: JetStream, stream: Stream, name: str
) -> None:
    """Then it stays in the stream, and the others go on."""
    await fill(store, name, "aa")
    config = ConsumerConfig(name="c", ack_wait=0.2, max_deliver=2)
    consumer = await stream.create_consumer(config)
    (first, second) = await consumer.fetch(2)
    second.ack()
    assert numbers(await got(consumer, 1)) == [first.sequence]
    assert await consumer.fetch(1, 0.8) == []
    assert (await stream.info()).messages == 2


async def test_what_is_given_back_comes_at_once(
    store: JetStream, stream: Stream, name: str
) -> None:
    """Or after a while, when that is said."""
    await fill(store, name, "aa")
    consumer = await stream.create_consumer(ConsumerConfig(name="c", ack_wait=30))
    loop = asyncio.get_running_loop()
    (first, second) = await consumer.fetch(2)
    started = loop.time()
    second.nak(delay=0.5)
    first.nak()
    again = await got(consumer, 2)
    assert numbers(again) == [1, 2]
    assert 0.45 <= loop.time() - started < 10
    assert [one.deliveries for one in again] == [2, 2]


async def test_what_is_worked_on_does_not_come_again(
    store: JetStream, stream: Stream, name: str
) -> None:
    """As long as that is said."""
    await fill(store, name, "a")
    consumer = await stream.create_consumer(ConsumerConfig(name="c", ack_wait=0.6))
    (one,) = await consumer.fetch(1)
    for _ in range(5):
        assert await consumer.fetch(1, 0.3) == []
        one.in_progress()
    assert (await got(consumer, 1))[0].deliveries == 2


async def test_what_is_given_up_never_comes_again(
    store: JetStream, stream: Stream, name: str
) -> None:
    """With a reason or without."""
    await fill(store, name, "aa")
    consumer = await stream.create_consumer(ConsumerConfig(name="c", ack_wait=0.2))
    (first, second) = await consumer.fetch(2)
    first.term("does not fit: line\r\nbreak")
    second.term()
    assert await consumer.fetch(1, 0.8) == []
    info = await consumer.info()
    assert (info.ack_pending, info.ack_floor) == (0, 2)


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ((), [1, 2, 3, 4, 5, 6]),
        (("a",), [1, 3, 6]),
        (("a", "c"), [1, 3, 4, 6]),
        (("*",), [1, 2, 3, 4, 5, 6]),
    ],
)
async def test_filters_choose_by_subject(
    store: JetStream,
    stream: Stream,
    name: str,
    filters: tuple[str, ...],
    found: list[int],
) -> None:
    """None, one or several; what is left out does not count as a lag."""
    await fill(store, name, "abacba")
    wanted = tuple(f"{name}.{each}" for each in filters)
    consumer = await stream.create_consumer(ConsumerConfig(name="c", filters=wanted))
    await waiting(consumer, len(found))
    assert (await consumer.info()).pending == len(found)
    assert numbers(await consumer.fetch(len(found))) == found
    assert await consumer.fetch(1, 0.0) == []
    with pytest.raises(InvalidArgument, match="overlap"):
        await stream.create_consumer(
            ConsumerConfig(name="d", filters=(f"{name}.a", f"{name}.*"))
        )


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"deliver": "all"}, [1, 2, 3, 4, 5]),
        ({"deliver": "new"}, []),
        ({"deliver": "last"}, [4]),
        ({"deliver": "last_per_subject"}, [3, 4]),
        ({"deliver": "by_start_sequence", "start_sequence": 4}, [4]),
    ],
)
async def test_a_consumer_begins_where_it_is_told(
    store: JetStream,
    stream: Stream,
    name: str,
    options: dict[str, Any],
    found: list[int],
) -> None:
    """And goes on with all that comes."""
    await fill(store, name, "ababc")
    wanted = (f"{name}.a", f"{name}.b")
    config = ConsumerConfig(name="c", filters=wanted, **options)
    found = [number for number in found if number < 5]
    consumer = await stream.create_consumer(config)
    await waiting(consumer, len(found))
    assert (await consumer.info()).pending == len(found)
    await fill(store, name, "acb")
    assert numbers(await consumer.fetch(len(found) + 2)) == [*found, 6, 8]


async def test_a_consumer_begins_at_a_time(
    store: JetStream, stream: Stream, name: str
) -> None:
    """With the first message stored then or later."""
    await fill(store, name, "aa")
    await asyncio.sleep(0.05)
    since = store.now()
    await asyncio.sleep(0.05)
    await fill(store, name, "aa")
    config = ConsumerConfig(name="c", deliver="by_start_time", start_time=since)
    consumer = await stream.create_consumer(config)
    assert numbers(await consumer.fetch(2)) == [3, 4]


async def test_no_more_are_handed_out_than_may_be_unacked(
    store: JetStream, stream: Stream, name: str
) -> None:
    """An ack makes room for one."""
    await fill(store, name, "aaaa")
    consumer = await stream.create_consumer(ConsumerConfig(name="c", max_ack_pending=2))
    found = await consumer.fetch(4, 0.3)
    assert numbers(found) == [1, 2]
    found[0].ack()
    assert numbers(await consumer.fetch(4, 0.3)) == [3]


async def test_without_acks_messages_come_once(
    store: JetStream, stream: Stream, name: str
) -> None:
    """And payloads can be left out."""
    await fill(store, name, "aa")
    config = ConsumerConfig(name="c", ack="none", headers_only=True)
    consumer = await stream.create_consumer(config)
    found = await consumer.fetch(2)
    assert [one.data for one in found] == [b"", b""]
    async with asyncio.timeout(20):  # a replica may answer, a little behind
        while (info := await consumer.info()).ack_floor < 2:
            await asyncio.sleep(0.05)
    assert (info.delivered, info.ack_pending, info.ack_floor) == (2, 0, 2)


async def test_one_ack_may_stand_for_all_before(
    store: JetStream, stream: Stream, name: str
) -> None:
    """Where the consumer is made so."""
    await fill(store, name, "aaaa")
    consumer = await stream.create_consumer(ConsumerConfig(name="c", ack="all"))
    found = await consumer.fetch(4)
    await found[2].ack_confirmed()
    info = await consumer.info()
    assert (info.ack_floor, info.ack_pending) == (3, 1)


async def test_a_consumer_says_how_it_was_made(stream: Stream, name: str) -> None:
    """Every option comes back; making it twice is making it once."""
    config = ConsumerConfig(
        name="c",
        description="of a test",
        filters=(f"{name}.a", f"{name}.b"),
        deliver="by_start_sequence",
        start_sequence=7,
        ack_wait=1.5,
        max_deliver=5,
        max_ack_pending=10,
        headers_only=True,
        inactive_after=3600.0,
        in_memory=True,
        metadata={"of": "test"},
    )
    consumer = await stream.create_consumer(config)
    info = await consumer.info()
    told = {k: v for k, v in info.config.metadata.items() if not k.startswith("_nats")}
    assert replace(info.config, metadata=told, replicas=None) == config
    assert (info.stream, info.paused, info.waiting) == (name, False, 0)
    await stream.create_consumer(config)
    with pytest.raises(AlreadyExists, match="consumer already exists"):
        await stream.create_consumer(replace(config, max_deliver=6))
    changed = await stream.update_consumer(replace(config, max_deliver=6))
    assert (await changed.info()).config.max_deliver == 6
    with pytest.raises(InvalidArgument, match="can not be updated"):
        await stream.update_consumer(
            replace(config, deliver="all", start_sequence=None)
        )
    assert [one.config.name for one in await stream.consumers()] == ["c"]


async def test_an_update_keeps_the_place(
    store: JetStream, stream: Stream, name: str
) -> None:
    """What was acked stays acked."""
    await fill(store, name, "aaa")
    config = ConsumerConfig(name="c")
    consumer = await stream.create_consumer(config)
    for one in await consumer.fetch(2):
        await one.ack_confirmed()
    await stream.update_consumer(replace(config, max_ack_pending=7))
    assert numbers(await consumer.fetch(1)) == [3]


async def test_a_consumer_is_found_by_its_name(
    store: JetStream, stream: Stream, name: str
) -> None:
    """By whoever asks; its place is shared; gone is not found."""
    await fill(store, name, "aa")
    one = await stream.create_consumer(ConsumerConfig(name="c"))
    other = await (await store.stream(name)).consumer("c")
    assert numbers(await one.fetch(1)) == [1]
    assert numbers(await other.fetch(1)) == [2]
    await stream.delete_consumer("c")
    for asking in (stream.consumer("c"), one.info(), stream.delete_consumer("c")):
        with pytest.raises(NotFound):
            await asking
    assert await stream.consumers() == []


async def test_a_consumer_without_a_name_gets_one(
    store: JetStream, stream: Stream, name: str
) -> None:
    """And is gone a while after nobody uses it."""
    config = ConsumerConfig(durable=False, inactive_after=0.5)
    consumer = await stream.create_consumer(config)
    assert consumer.name
    await fill(store, name, "a")
    (one,) = await consumer.fetch(1)
    await one.ack_confirmed()
    async with asyncio.timeout(20):
        while await stream.consumers():
            await asyncio.sleep(0.1)


async def test_a_pause_ends_by_itself(
    store: JetStream, stream: Stream, name: str
) -> None:
    """Or when it is told to; nothing is lost."""
    await fill(store, name, "aa")
    consumer = await stream.create_consumer(ConsumerConfig(name="c"))
    await consumer.pause(store.now() + 0.9)
    await told(consumer, paused=True)
    assert await consumer.fetch(1, 0.2) == []
    assert numbers(await got(consumer, 1)) == [1]
    await consumer.pause(store.now() + 3600)
    await told(consumer, paused=True)
    assert await consumer.fetch(1, 0.2) == []
    await consumer.resume()
    assert numbers(await got(consumer, 1)) == [2]
    await told(consumer, paused=False)


async def told(consumer: Consumer, *, paused: bool) -> None:
    """Return when its state says so: in a cluster it takes a moment."""
    async with asyncio.timeout(10):
        while (await consumer.info()).paused != paused:
            await asyncio.sleep(0.01)


async def test_what_is_deleted_is_not_handed_out(
    store: JetStream, stream: Stream, name: str
) -> None:
    """A purge counts for consumers too."""
    await fill(store, name, "ababab")
    consumer = await stream.create_consumer(ConsumerConfig(name="c"))
    await stream.purge(f"{name}.a")
    await stream.delete(2)
    async with asyncio.timeout(10):
        while (await consumer.info()).pending != 2:  # in a cluster it takes a moment
            await asyncio.sleep(0.01)
    assert numbers(await consumer.fetch(2)) == [4, 6]
