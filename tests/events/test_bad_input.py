"""Faults of the store and hostile values: each is a sentence, or a recovery."""

from __future__ import annotations

import asyncio

import pytest

import kitmsg
from kitmsg import Event, Kit, Service, Stream, subscribe
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.errors import (
    FailedPrecondition,
    InvalidArgument,
    PermissionDenied,
    ResourceExhausted,
)
from kitmsg.jetstream import StreamConfig


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


@pytest.mark.parametrize(
    "value", ["", "a.b", "a b", "*", ">", "\0", "\r\n", "$JS", "%2E", "é"]
)
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


async def test_a_full_stream_is_a_sentence(kit: Kit) -> None:
    await kit.publish(Few("1"))
    with pytest.raises(ResourceExhausted, match="maximum messages exceeded"):
        await kit.publish(Few("2"))


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
