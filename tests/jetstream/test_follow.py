"""What every store promises of a stream read as a log."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from kitmsg.errors import InvalidArgument, NotFound
from kitmsg.jetstream import Outgoing
from tests.jetstream.test_messages import cut

if TYPE_CHECKING:
    from kitmsg.bus import Bus
    from kitmsg.jetstream import Follow, JetStream, Stream


async def fill(store: JetStream, name: str, tokens: str) -> None:
    """Store a message on each of the subjects below `name`."""
    await store.publish_many(Outgoing(f"{name}.{token}") for token in tokens)


async def take(log: Follow, count: int) -> list[int]:
    """Return the sequences of the next messages."""
    async with asyncio.timeout(20):
        return [(await anext(log)).sequence for _ in range(count)]


async def test_a_log_has_all_messages_and_those_that_come(
    store: JetStream, stream: Stream, name: str
) -> None:
    """In order, each once, however few are pulled ahead."""
    await fill(store, name, "a" * 20)
    async with stream.follow(buffer=3) as log:
        assert await take(log, 20) == list(range(1, 21))
        waiting = asyncio.ensure_future(take(log, 5))
        await fill(store, name, "b" * 5)
        assert await waiting == [21, 22, 23, 24, 25]
    with pytest.raises(InvalidArgument, match="1 or more"):
        stream.follow(buffer=0)


async def test_a_log_begins_where_it_is_told(
    store: JetStream, stream: Stream, name: str
) -> None:
    """At a sequence, a time, the last of each subject, or with what is new."""
    await fill(store, name, "abab")
    await asyncio.sleep(0.05)
    since = store.now()
    await asyncio.sleep(0.05)
    await fill(store, name, "ca")
    async with stream.follow(sequence=3) as log:
        assert await take(log, 4) == [3, 4, 5, 6]
    async with stream.follow(since=since) as log:
        assert await take(log, 2) == [5, 6]
    async with stream.follow(
        f"{name}.a", f"{name}.b", deliver="last_per_subject"
    ) as log:
        assert await take(log, 2) == [4, 6]
    async with stream.follow(f"{name}.b", deliver="new") as log:
        await fill(store, name, "ab")
        assert await take(log, 1) == [8]


async def test_a_log_misses_nothing_when_the_connection_is_lost(
    store: JetStream, stream: Stream, bus: Bus, name: str
) -> None:
    """And shows nothing twice."""
    await fill(store, name, "a" * 50)
    async with stream.follow(buffer=10) as log:
        seen = await take(log, 5)
        for _ in range(3):
            await cut(bus)
            seen += await take(log, 5)
        await fill(store, name, "a" * 10)
        seen += await take(log, 40)
    assert seen == list(range(1, 61))


async def test_a_log_goes_on_when_its_consumer_is_deleted(
    store: JetStream, stream: Stream, name: str
) -> None:
    """As when the server has forgotten it."""
    await fill(store, name, "a" * 5)
    async with stream.follow(buffer=2) as log:
        assert await take(log, 2) == [1, 2]
        await stream.delete_consumer(log.path.rpartition(".")[2])
        assert await take(log, 3) == [3, 4, 5]
        await fill(store, name, "a")
        assert await take(log, 1) == [6]


async def test_a_log_ends_with_its_stream(
    store: JetStream, stream: Stream, name: str
) -> None:
    """With an error."""
    await fill(store, name, "a")
    async with stream.follow() as log:
        await take(log, 1)
        await store.delete_stream(name)
        async with asyncio.timeout(20):
            with pytest.raises(NotFound, match="stream not found"):
                await anext(log)
    with pytest.raises(NotFound):
        async with stream.follow():
            pass


async def test_nothing_is_left_of_a_log(
    store: JetStream, stream: Stream, name: str
) -> None:
    """No consumer, no task; a log that is over has no more messages."""
    before = asyncio.all_tasks()
    await fill(store, name, "a" * 5)
    async with stream.follow() as log:
        await take(log, 2)
    assert [one async for one in log] == []
    assert await stream.consumers() == []
    assert asyncio.all_tasks() <= before
