"""Items sent and taken without waiting: what a gateway does with each of thousands."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from kitmsg.codec import JSON
from kitmsg.errors import FailedPrecondition
from kitmsg.transport.opening import accept, open_stream
from kitmsg.transport.replies import reply_codec

if TYPE_CHECKING:
    from kitmsg.bus.memory import MemoryBus
    from kitmsg.message import Message
    from kitmsg.transport.stream import Stream


@pytest.fixture
async def ends(memory_bus: MemoryBus) -> tuple[Stream, Stream]:
    """Both ends of a stream: the caller's and the service's."""
    taken: list[Stream] = []

    def receive(message: Message) -> None:
        taken.append(accept(memory_bus, message, "test.stream", takes_items=True))

    memory_bus.subscribe("test.stream", receive)
    return await open_stream(memory_bus, "test.stream", b""), taken[0]


async def test_push_sends_as_far_as_there_is_credit(
    ends: tuple[Stream, Stream],
) -> None:
    """It is False when `send` would wait, and what it refused was not sent."""
    ours, theirs = ends
    pushed = 0
    while ours.push(b"%d" % pushed):
        pushed += 1
    await ours.finish()
    assert [message.data async for message in theirs] == [
        b"%d" % i for i in range(pushed)
    ]
    assert pushed


async def test_push_on_a_stream_that_is_over(ends: tuple[Stream, Stream]) -> None:
    """It says so, as `send` does."""
    ours, _ = ends
    await ours.finish()
    with pytest.raises(FailedPrecondition, match="finished"):
        ours.push(b"x")
    ours.cancel()


async def test_on_item_takes_items_as_they_come(ends: tuple[Stream, Stream]) -> None:
    """They count as read, so that many more than one window of them can come."""
    ours, theirs = ends
    found: list[bytes] = []

    def take(message: Message) -> bool:
        found.append(message.data)
        return True

    theirs.on_item = take
    for i in range(1000):
        await ours.send(b"%d" % i)
    await ours.finish()
    assert [message async for message in theirs] == []
    assert found == [b"%d" % i for i in range(1000)]


async def test_items_that_on_item_leaves_wait_in_order(
    ends: tuple[Stream, Stream],
) -> None:
    """Behind one that was left nothing overtakes, and all of them can be iterated over."""
    ours, theirs = ends
    theirs.on_item = lambda message: message.data != b"2"
    for i in range(5):
        await ours.send(b"%d" % i)
    await ours.finish()
    assert [message.data async for message in theirs] == [b"2", b"3", b"4"]


async def test_a_reader_that_is_cancelled_as_an_item_comes(
    ends: tuple[Stream, Stream],
) -> None:
    """It ends as cancelled, and the item waits for the next one."""
    ours, theirs = ends
    reading = asyncio.create_task(anext(theirs))
    await asyncio.sleep(0)
    ours.push(b"1")
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert (await anext(theirs)).data == b"1"
    reading = asyncio.create_task(anext(theirs))
    await asyncio.sleep(0)
    reading.cancel()
    ours.push(b"2")
    await asyncio.wait([reading])
    assert reading.cancelled()
    assert (await anext(theirs)).data == b"2"


async def test_pop_takes_what_is_here(ends: tuple[Stream, Stream]) -> None:
    """It never waits, and counts as reading: more than one window can come so."""
    ours, theirs = ends
    assert theirs.pop() is None
    found = []
    for i in range(1000):
        await ours.send(b"%d" % i)
        if i % 10 == 9:
            await asyncio.sleep(0.001)
            while message := theirs.pop():
                found.append(message.data)
    assert found == [b"%d" % i for i in range(1000)]
    ours.cancel()


async def test_an_items_headers_are_never_parsed(ends: tuple[Stream, Stream]) -> None:
    """Its codec is that of the request, so there is nothing to look up."""
    ours, theirs = ends
    await ours.send(b"1")
    message = await anext(theirs)
    assert reply_codec(message, JSON) is JSON
    assert message._headers is None
    ours.cancel()


async def test_reading_after_ones_own_end(ends: tuple[Stream, Stream]) -> None:
    """A service that ended the stream has no good end of what its caller sends."""
    ours, theirs = ends
    await theirs.finish()
    with pytest.raises(FailedPrecondition, match="is over"):
        await anext(theirs)
    assert [message async for message in ours] == []
