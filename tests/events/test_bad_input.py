"""Faults of the store and hostile values: each is a sentence, or a recovery."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING, Any

import pytest

import kitmsg
from kitmsg import Event, Kit, Service, Stream, endpoint, subscribe
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.errors import (
    FailedPrecondition,
    InvalidArgument,
    PermissionDenied,
    ResourceExhausted,
)
from kitmsg.jetstream import StreamConfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LEVEL = re.compile(rb'("api":\{"level":)\d')
HOSTILE = ["", "a.b", "a b", "*", ">", "\0", "\r\n", "$JS", "%2E", "é"]


class Made(Event, subject="bad.made.{id}"):
    id: str
    text: str = ""


class Few(Event, subject="few.made", stream=Stream(max_events=1, full="refuse")):
    id: str


class Taken(Event, subject="taken.made.{id}"):
    id: str


class Hears(Service):
    def __init__(self) -> None:
        self.got: asyncio.Queue[str] = asyncio.Queue()

    @subscribe(Made)
    async def on(self, event: Made) -> None:
        self.got.put_nowait(event.id)


class HearsTaken(Service):
    @subscribe(Taken)
    async def on(self, event: Taken) -> None: ...


class Told(Service):
    def __init__(self) -> None:
        self.got: asyncio.Queue[str] = asyncio.Queue()

    @endpoint(durable=True)
    async def hear(self, text: str) -> None:
        self.got.put_nowait(text)


@pytest.mark.parametrize("value", HOSTILE)
async def test_any_text_comes_through_a_field_of_the_subject(
    kit: Kit, value: str
) -> None:
    hears = Hears()
    await kit.serve(hears)
    await kit.publish(Made(value))
    assert await hears.got.get() == value


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (Made("\ud800"), "surrogates not allowed"),
        (Made("x" * 5000), "a subject holds at most 256 characters of a field"),
        (Made(5), "field 'id': expected str, got int"),  # type: ignore[arg-type]
        (Made("x", "y" * 2_000_000), "max_payload is 1048576"),
    ],
    ids=["surrogate", "long", "other type", "large"],
)
async def test_an_event_that_cannot_be_stored_is_a_sentence(
    kit: Kit, event: Made, why: str
) -> None:
    with pytest.raises(InvalidArgument, match=why):
        await kit.publish(event)


@pytest.mark.parametrize("value", HOSTILE)
async def test_a_filter_by_any_text_is_for_that_text_alone(
    kit: Kit, value: str
) -> None:
    """No value is a wildcard, and none leads to another subject."""

    class Filtered(Hears):
        @subscribe(Made, where={"id": value})
        async def on(self, event: Made) -> None:
            self.got.put_nowait(event.id)

    hears = Filtered()
    await kit.serve(hears)
    await kit.publish_many([Made("other"), Made("a"), Made(value), Made("b")])
    log = kit.events(Made, where={"id": value})
    assert [event.id async for event in log] == [value]
    assert await hears.got.get() == value
    assert hears.got.empty()


@pytest.mark.parametrize("value", [each for each in HOSTILE if each])
async def test_a_tell_for_later_may_have_any_id(kit: Kit, value: str) -> None:
    """It waits under that id, and no other tell has to do with it."""
    told = Told()
    await kit.serve(told)
    await kit.tell(Told, after=3600, id="other").hear("later")
    await kit.tell(Told, after=3600, id=value).hear("never")
    assert await kit.cancel_tell(Told, value)
    assert not await kit.cancel_tell(Told, value)
    assert await kit.cancel_tell(Told, "other")
    assert told.got.empty()


async def test_what_is_over_the_limit_is_refused_and_nothing_stored(kit: Kit) -> None:
    """By whatever door it comes."""
    told = Told()
    await kit.serve(told)
    await kit.serve(Hears)
    large = "y" * 2_000_000
    with pytest.raises(InvalidArgument, match="max_payload is 1048576"):
        await kit.tell(Told).hear(large)
    with pytest.raises(InvalidArgument, match="max_payload is 1048576"):
        await kit.publish(Made("2", large))
    with pytest.raises(InvalidArgument, match="max_payload is 1048576"):
        await kit.publish_many([Made("2", large)])
    await kit.tell(Told).hear("small")
    assert await told.got.get() == "small"
    assert [event async for event in kit.events(Made)] == []


async def test_a_full_stream_is_a_sentence_and_keeps_what_it_has(kit: Kit) -> None:
    await kit.publish(Few("1"))
    with pytest.raises(ResourceExhausted, match="maximum messages exceeded"):
        await kit.publish(Few("2"))
    with pytest.raises(ResourceExhausted, match="maximum messages exceeded"):
        await kit.publish_many([Few("2"), Few("3")])
    assert [event async for event in kit.events(Few)] == [Few("1")]
    await (await kit.jetstream.stream("few")).purge()
    await kit.publish(Few("4"))  # there is room again
    assert [event async for event in kit.events(Few)] == [Few("4")]


async def test_subjects_that_another_stream_stores_are_said_with_its_name(
    kit: Kit,
) -> None:
    """By a publisher, a worker and the plan: nothing is made beside it."""
    await kit.jetstream.create_stream(
        StreamConfig(name="theirs", subjects=("event.taken.>",))
    )
    why = "is in the stream 'theirs' already.*Stream\\(name='theirs'\\)"
    with pytest.raises(FailedPrecondition, match=why):
        await kit.publish(Taken("1"))
    with pytest.raises(FailedPrecondition, match=why):
        await kit.serve(HearsTaken)
    assert [each.config.name for each in await kit.jetstream.streams()] == ["theirs"]


async def test_a_consumer_that_is_deleted_is_made_again(kit: Kit) -> None:
    hears = Hears()
    await kit.serve(hears)
    await kit.publish(Made("1"))
    assert await hears.got.get() == "1"
    await (await kit.jetstream.stream("bad")).delete_consumer("hears-on")
    await kit.publish(Made("2"))
    while await hears.got.get() != "2":
        pass  # at least once


@pytest.mark.parametrize("kind", ["memory"])
async def test_a_deletion_is_noticed_long_before_a_heartbeat_is_missed(
    kind: str, kit: Kit
) -> None:
    """The server says so to the pull that is under way; time is exact here."""
    hears = Hears()
    await kit.serve(hears)
    await asyncio.sleep(7)
    begun = asyncio.get_running_loop().time()
    await (await kit.jetstream.stream("bad")).delete_consumer("hears-on")
    await kit.publish(Made("1"))
    assert await hears.got.get() == "1"
    assert asyncio.get_running_loop().time() - begun < 0.5


async def test_a_stream_that_is_deleted_is_made_again_and_nothing_is_missed(
    kit: Kit,
) -> None:
    """Events published before the subscription found it again come as well."""
    hears = Hears()
    await kit.serve(hears)
    await kit.publish(Made("1"))
    assert await hears.got.get() == "1"
    await kit.jetstream.delete_stream("bad")
    await kit.publish(Made("2"))
    await kit.publish(Made("3"))
    assert {await hears.got.get(), await hears.got.get()} == {"2", "3"}


async def test_many_find_a_deleted_stream_again_as_one_does(kit: Kit) -> None:
    await kit.publish(Made("1"))
    await kit.jetstream.delete_stream("bad")
    assert await kit.publish_many([Made("2"), Made("3")]) == [1, 2]


@pytest.mark.parametrize("kind", ["nats"])
async def test_a_server_without_a_store_is_a_sentence(kind: str) -> None:
    with EmbeddedServer(jetstream=False) as server:
        async with kitmsg.connect(server.url) as kit:
            with pytest.raises(FailedPrecondition, match="JetStream is off"):
                await kit.publish(Made("1"))
            with pytest.raises(FailedPrecondition, match="JetStream is off"):
                await kit.serve(Hears)


@pytest.mark.parametrize("kind", ["nats"])
async def test_a_user_who_may_not_publish_is_told_the_subject(kind: str) -> None:
    rights = "authorization { users=[{user:a, password:a, permissions:{publish:[x]}}] }"
    with EmbeddedServer(config=rights) as server:
        url = server.url.replace("nats://", "nats://a:a@")
        async with kitmsg.connect(url) as kit:
            with pytest.raises(PermissionDenied, match=r"'event\.bad\.made\.1'"):
                await kit.publish(Made("1"))
            many = [Made(str(number)) for number in range(1, 9)]
            with pytest.raises(PermissionDenied, match=r"'event\.bad\.made\.1'"):
                await kit.publish_many(many, timeout=3600)  # said at once


@contextlib.asynccontextmanager
async def outdated(url: str) -> AsyncIterator[str]:
    """A server as of nats-server 2.11, for clients that look: the API level is 1."""
    host, port = url.removeprefix("nats://").split(":")
    pipes: set[asyncio.Task[Any]] = set()

    async def pipe(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        # By lines, so that what is changed is never cut in two.
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            try:
                while True:
                    line = await reader.readuntil(b"\n")
                    writer.write(LEVEL.sub(rb"\g<1>1", line) if is_answer else line)
            finally:
                writer.close()
                await writer.wait_closed()

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, int(port))
        pipes.add(asyncio.create_task(pipe(reader, back, is_answer=False)))
        pipes.add(asyncio.create_task(pipe(there, writer, is_answer=True)))

    proxy = await asyncio.start_server(join, "127.0.0.1", 0)
    yield f"nats://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    proxy.close()
    for task in pipes:
        task.cancel()
    await asyncio.gather(*pipes, return_exceptions=True)


@pytest.mark.parametrize("kind", ["nats"])
async def test_an_old_server_has_events_and_says_what_it_lacks(
    kind: str, server: EmbeddedServer
) -> None:
    """Tells need its version 2.12, for those that are for later."""
    why = r"a stream with schedules needs nats-server 2\.12 or later.*has level 1"
    async with (
        outdated(server.url) as url,
        kitmsg.connect(url, makes_streams=True) as kit,
    ):
        hears = Hears()
        await kit.serve(hears)
        await kit.publish(Made("1"))
        assert await hears.got.get() == "1"
        with pytest.raises(FailedPrecondition, match=why):
            await kit.serve(Told)
