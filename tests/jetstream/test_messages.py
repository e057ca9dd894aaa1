"""What every store promises of reading ahead: one suite, on memory and on a real server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from kitmsg.bus.memory import MemoryBus
from kitmsg.errors import InvalidArgument, NotFound
from kitmsg.jetstream import ConsumerConfig, Messages, Outgoing
from kitmsg.jetstream.source import Pace
from tests.jetstream.conftest import KINDS

if TYPE_CHECKING:
    from kitmsg.bus import Bus
    from kitmsg.jetstream import Consumer, Delivery, JetStream, Stream


@pytest.fixture(params=[*KINDS, "nats-uvloop"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def consumer(stream: Stream) -> Consumer:
    """One that would deliver again in half a minute."""
    return await stream.create_consumer(ConsumerConfig(name="c", ack_wait=30))


async def fill(store: JetStream, name: str, count: int, start: int = 0) -> None:
    """Store so many numbered messages."""
    await store.publish_many(
        Outgoing(f"{name}.a", b"%d" % i) for i in range(start, start + count)
    )


async def read(messages: Messages, count: int) -> list[Delivery]:
    """Read and ack so many messages."""
    found: list[Delivery] = []
    async with asyncio.timeout(50):  # more than the ack wait
        async for one in messages:
            one.ack()
            found.append(one)
            if len(found) == count:
                break
    return found


async def acked(consumer: Consumer, floor: int) -> None:
    """Return when the consumer knows that all up to `floor` is acked."""
    async with asyncio.timeout(10):
        while (await consumer.info()).ack_floor < floor:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("buffer", [1, 2, 7, 512])
async def test_all_messages_come_in_order(
    store: JetStream, consumer: Consumer, name: str, buffer: int
) -> None:
    """Those that are there, and those that come; however few are pulled ahead."""
    await fill(store, name, 30)
    async with consumer.messages(buffer=buffer) as messages:
        found = await read(messages, 30)
        await fill(store, name, 30, 30)
        found += await read(messages, 30)
        assert messages.waiting() == 0
    assert [one.data for one in found] == [b"%d" % i for i in range(60)]
    assert {one.deliveries for one in found} == {1}
    await acked(consumer, 60)


async def test_no_more_are_pulled_than_the_buffer_holds(
    store: JetStream, consumer: Consumer, name: str
) -> None:
    """The rest stays in the stream, for others."""
    await fill(store, name, 100)
    async with consumer.messages(buffer=10) as messages:
        await read(messages, 1)
        async with asyncio.timeout(10):
            while messages.waiting() < 9:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)  # no more come
        assert messages.waiting() == 9
        assert (await consumer.info()).pending == 90
    with pytest.raises(InvalidArgument, match="1 or more"):
        consumer.messages(buffer=0)


@pytest.mark.parametrize("kind", ["nats"])
async def test_more_are_pulled_ahead_while_they_are_read_quickly(
    bus: Bus, store: JetStream, consumer: Consumer, name: str
) -> None:
    """And what waits behind a reader that stands still goes to others."""
    await fill(store, name, 1000)
    most = 0
    pace = Pace(heartbeat=0.2)
    async with Messages(bus, consumer, pace, buffer=4, most=64) as messages:
        for _ in range(500):
            (await anext(messages)).ack()
            most = max(most, messages.waiting())
        assert 4 < most <= 64
        async with consumer.messages() as others:
            found = await read(others, 496)
        assert messages.waiting() == 4
    assert len({one.sequence for one in found}) == 496


async def test_messages_are_handed_out_as_they_come(
    store: JetStream, consumer: Consumer, name: str
) -> None:
    """Those that wait and those that come later, without a task that asks for each."""
    await fill(store, name, 3)
    found: list[bytes] = []
    async with consumer.messages() as messages:

        def take() -> None:
            while (message := messages.pop()) is not None:
                found.append(message.data)
                message.ack()

        handing = asyncio.create_task(messages.hand(take))
        await fill(store, name, 3, 3)
        await acked(consumer, 6)
        assert not handing.done()
        await messages.close()
        await handing
    assert found == [b"%d" % i for i in range(6)]


async def test_those_that_were_left_are_told_of_no_more(
    store: JetStream, consumer: Consumer, name: str
) -> None:
    """One call for all that come while some wait; the next when none does any more."""
    calls: list[int] = []
    async with consumer.messages() as messages:
        handing = asyncio.create_task(
            messages.hand(lambda: calls.append(messages.waiting()))
        )
        await fill(store, name, 3)
        async with asyncio.timeout(10):
            while messages.waiting() < 3:
                await asyncio.sleep(0.01)
        assert calls == [0, 1]  # at the beginning, and of the first
        while (message := messages.pop()) is not None:
            message.ack()
        await fill(store, name, 1, 3)
        async with asyncio.timeout(10):
            while not messages.waiting():
                await asyncio.sleep(0.01)
        assert calls == [0, 1, 1]
        await messages.close()
        await handing


# A cluster may lose what is given back, with the consumer's leader; then the ack wait counts.
@pytest.mark.parametrize("kind", ["memory", "nats", "nats-uvloop"])
async def test_what_was_not_read_is_given_back_at_once(
    store: JetStream, consumer: Consumer, name: str
) -> None:
    """Others get it before the ack wait is over; what was read stays the reader's."""
    await fill(store, name, 50)
    async with consumer.messages(buffer=20) as messages:
        first = await anext(messages)
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with consumer.messages(buffer=100) as others:
        found = await read(others, 49)
    assert loop.time() - started < 25
    assert sorted(one.sequence for one in found) == list(range(2, 51))
    first.ack()
    await acked(consumer, 50)


async def test_readers_share_the_messages(
    store: JetStream, consumer: Consumer, name: str
) -> None:
    """Several of one process, and several tasks of one reader."""
    await fill(store, name, 200)
    seen: list[int] = []

    async def work(messages: Messages) -> None:
        async for one in messages:
            seen.append(one.sequence)
            one.ack()
            await asyncio.sleep(0)

    async with consumer.messages(buffer=5) as one, consumer.messages(buffer=5) as two:
        tasks = [asyncio.ensure_future(work(m)) for m in (one, one, two, two)]
        async with asyncio.timeout(20):
            while len(seen) < 200:
                await asyncio.sleep(0.01)
        await one.close()
        await two.close()
        await asyncio.gather(*tasks)  # they end with the reading
    assert sorted(seen) == list(range(1, 201))


async def test_messages_are_taken_in_batches(
    store: JetStream, consumer: Consumer, name: str
) -> None:
    """As many as wanted, or those that came in time after the first one."""
    async with consumer.messages() as messages:
        taking = asyncio.ensure_future(messages.take(3, 0.2))
        await asyncio.sleep(0.3)
        assert not taking.done()  # nothing came yet
        await fill(store, name, 5)
        assert len(await taking) == 3
        loop = asyncio.get_running_loop()
        started = loop.time()
        assert len(await messages.take(3, 0.2)) == 2
        assert loop.time() - started >= 0.15
        waiting = asyncio.ensure_future(messages.take(3, 0.2))
        await asyncio.sleep(0)
        await messages.close()
        assert await waiting == []


async def test_a_batch_that_is_cancelled_gives_back(
    store: JetStream, consumer: Consumer, name: str
) -> None:
    """What it had taken comes again at once."""
    async with consumer.messages() as messages:
        taking = asyncio.ensure_future(messages.take(10, 20.0))
        await fill(store, name, 2)
        async with asyncio.timeout(10):
            while (await consumer.info()).delivered < 2:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
        again = await read(messages, 2)
    assert {one.deliveries for one in again} == {2}


async def test_a_consumer_that_is_deleted_is_made_again(
    store: JetStream,
    stream: Stream,
    consumer: Consumer,
    name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing is lost, and what is known to be acked does not come again."""
    await fill(store, name, 10)
    async with consumer.messages() as messages:
        await read(messages, 10)
        await acked(consumer, 10)
        await consumer.look()
        await stream.delete_consumer("c")
        await fill(store, name, 10, 10)
        found = await read(messages, 10)
    assert [one.data for one in found] == [b"%d" % i for i in range(10, 20)]
    assert "consumer c" in caplog.text
    assert "made again, from message 11 on" in caplog.text


async def test_a_fetch_makes_a_deleted_consumer_again(
    store: JetStream, stream: Stream, consumer: Consumer, name: str
) -> None:
    """As a reader does."""
    await fill(store, name, 3)
    for one in await consumer.fetch(2):
        await one.ack_confirmed()
    await consumer.look()
    await stream.delete_consumer("c")
    assert [one.sequence for one in await consumer.fetch(1)] == [3]


async def test_reading_ends_with_the_stream(
    store: JetStream, consumer: Consumer, name: str
) -> None:
    """With an error, when what waits is read; the stream is not made again."""
    await fill(store, name, 1)
    async with consumer.messages() as messages:
        async with asyncio.timeout(10):
            while not messages.waiting():
                await asyncio.sleep(0.01)
        await store.delete_stream(name)
        assert (await anext(messages)).data == b"0"
        async with asyncio.timeout(20):
            with pytest.raises(NotFound, match="stream not found"):
                await anext(messages)
    with pytest.raises(NotFound):
        await consumer.fetch(1)


async def test_reading_goes_on_when_the_connection_is_back(
    store: JetStream, consumer: Consumer, bus: Bus, name: str
) -> None:
    """What was on its way comes again, at its ack wait at the latest."""
    await fill(store, name, 20)
    async with consumer.messages(buffer=5) as messages:
        await read(messages, 10)
        await cut(bus)
        found = await read(messages, 10)
        await fill(store, name, 10, 20)
        found += await read(messages, 10)
    assert {one.data for one in found} >= {b"%d" % i for i in range(20, 30)}


async def cut(bus: Bus) -> None:
    """Lose the connection, and return when it is back."""
    if isinstance(bus, MemoryBus):
        bus.disconnect()
        await asyncio.sleep(0.1)
        bus.reconnect()
        return
    back = asyncio.Event()
    undo = bus.watch(lambda is_up: back.set() if is_up else None)
    await bus.client.force_reconnect()  # type: ignore[attr-defined]
    async with asyncio.timeout(10):
        await back.wait()
    undo()


async def test_a_message_with_an_id_outlives_the_connection(
    store: JetStream, stream: Stream, bus: Bus, name: str
) -> None:
    """It is stored once, whether its acknowledgement was lost or itself."""
    cutting = asyncio.ensure_future(cut(bus))
    await asyncio.sleep(0)
    messages = [
        Outgoing(f"{name}.a", b"%d" % i, message_id=f"m{i}") for i in range(500)
    ]
    while not bus.is_connected:
        await asyncio.sleep(0.01)
    again = asyncio.ensure_future(cut(bus))
    acks = await store.publish_many(messages, window=50)
    await cutting
    await again
    assert len(acks) == 500
    stored = [one.data async for one in stream.read()]
    assert sorted(stored) == sorted(m.data for m in messages)


async def test_nothing_is_left_when_reading_ends(
    store: JetStream, consumer: Consumer, bus: Bus, name: str
) -> None:
    """No task, and no pull at the consumer."""
    before = asyncio.all_tasks()
    await fill(store, name, 3)
    async with consumer.messages() as messages:
        await read(messages, 3)
    async with asyncio.timeout(10):
        while (await consumer.info()).waiting:
            await fill(store, name, 1)  # which finds that nobody is there
            await asyncio.sleep(0.01)
    assert asyncio.all_tasks() <= before
