"""What every store promises of streams: one suite, on memory and on a real server."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from kitmsg.jetstream import ConsumerConfig, Outgoing, StreamConfig

if TYPE_CHECKING:
    from kitmsg.jetstream import JetStream, Stored, Stream


def shown(messages: list[Stored]) -> list[tuple[str, bytes]]:
    """Return the last token of each subject, and the payload."""
    return [(one.subject.rpartition(".")[2], one.data) for one in messages]


async def fill(store: JetStream, name: str, *pairs: tuple[str, bytes]) -> None:
    """Store messages on subjects below `name`."""
    await store.publish_many(Outgoing(f"{name}.{token}", data) for token, data in pairs)


async def test_a_stream_says_how_it_was_made(store: JetStream, name: str) -> None:
    """Every option comes back as it was given."""
    config = StreamConfig(
        name=name,
        subjects=(f"{name}.a.*", f"{name}.b.>"),
        description="of a test",
        retention="interest",
        storage="memory",
        max_messages=100,
        max_bytes=10_000,
        max_age=3600.0,
        max_message_bytes=1000,
        max_per_subject=10,
        max_consumers=5,
        discard="new",
        discard_per_subject=True,
        duplicate_window=60.0,
        allow_ttl=True,
        allow_atomic=True,
        allow_rollup=True,
        deny_delete=True,
        metadata={"of": "test"},
    )
    info = await (await store.create_stream(config)).info()
    told = {k: v for k, v in info.config.metadata.items() if not k.startswith("_nats")}
    assert replace(info.config, metadata=told, replicas=1) == config
    assert (info.messages, info.bytes, info.first, info.last) == (0, 0, 0, 0) or (
        info.first == 1
    )
    assert (info.first_time, info.last_time, info.consumers) == (None, None, 0)
    await store.delete_stream(name)


async def test_its_state_counts_what_it_has(
    store: JetStream, stream: Stream, name: str
) -> None:
    """Messages, sequences, times and subjects."""
    before = (await stream.info()).now
    await fill(store, name, ("a", b"1"), ("b", b"2"), ("a", b"3"))
    await stream.create_consumer(ConsumerConfig(name="c"))
    info = await stream.info()
    assert (info.messages, info.first, info.last) == (3, 1, 3)
    assert (info.subjects, info.consumers) == (2, 1)
    assert info.first_time is not None
    assert info.last_time is not None
    assert before <= info.first_time <= info.last_time <= info.now
    assert await stream.subjects() == {f"{name}.a": 2, f"{name}.b": 1}
    assert await stream.subjects(f"{name}.a") == {f"{name}.a": 2}


async def test_making_it_twice_is_making_it_once(store: JetStream, name: str) -> None:
    """With other options it is an error that says what to do."""
    config = StreamConfig(name=name, subjects=(name,), storage="memory")
    await store.create_stream(config)
    await store.publish(name, b"1")
    again = await store.create_stream(config)
    assert (await again.info()).messages == 1
    with pytest.raises(AlreadyExists, match="whose options differ"):
        await store.create_stream(replace(config, max_messages=1))
    await store.delete_stream(name)


async def test_two_streams_do_not_share_a_subject(
    store: JetStream, stream: Stream, name: str
) -> None:
    """Else a message would be stored twice."""
    with pytest.raises(InvalidArgument, match="subjects overlap"):
        await store.create_stream(
            StreamConfig(name=f"{name}-2", subjects=(f"{name}.x",))
        )


async def test_an_update_changes_what_it_says(store: JetStream, name: str) -> None:
    """A smaller limit counts at once; what cannot be changed is an error."""
    config = StreamConfig(name=name, subjects=(f"{name}.>",), storage="memory")
    stream = await store.create_stream(config)
    await fill(store, name, *(("a", b"%d" % i) for i in range(5)))
    await store.update_stream(
        replace(config, max_messages=2, subjects=(f"{name}.>", f"{name}-more"))
    )
    await store.publish(f"{name}-more", b"5")
    assert [one.data async for one in stream.read()] == [b"4", b"5"]
    with pytest.raises((FailedPrecondition, InvalidArgument), match="storage type"):
        await store.update_stream(replace(config, storage="file"))
    with pytest.raises(NotFound):
        await store.update_stream(replace(config, name=f"{name}-none", subjects=()))
    await store.delete_stream(name)


async def test_streams_are_listed(store: JetStream, stream: Stream, name: str) -> None:
    """All, or those that take a subject."""
    assert name in [info.config.name for info in await store.streams()]
    taking = await store.streams(f"{name}.x")
    assert [info.config.name for info in taking] == [name]
    assert await store.streams(f"{name}-none") == []


async def test_what_is_not_there_is_not_found(store: JetStream, name: str) -> None:
    """Nor deleted."""
    with pytest.raises(NotFound):
        await store.stream(name)
    with pytest.raises(NotFound):
        await store.delete_stream(name)
    with pytest.raises(InvalidArgument, match="is no name"):
        await store.stream("a.b")


async def test_a_message_is_read_by_its_place(
    store: JetStream, stream: Stream, name: str
) -> None:
    """By sequence, as the last of a subject, as the next one; from any replica, or fresh."""
    await fill(store, name, ("a", b"1"), ("b", b"2"), ("a", b"3"))
    await store.publish(f"{name}.c", b"\0\xff", {"X": "y", "x-two": "ü"})
    for fresh in (False, True):
        found = [
            await stream.get(2, fresh=fresh),
            await stream.last(f"{name}.a", fresh=fresh),
            await stream.next(f"{name}.a", 2, fresh=fresh),
            await stream.next(f"{name}.*", fresh=fresh),
        ]
        assert shown(found) == [("b", b"2"), ("a", b"3"), ("a", b"3"), ("a", b"1")]
        assert [one.sequence for one in found] == [2, 3, 3, 1]
        last = await stream.last(f"{name}.>", fresh=fresh)
        assert (last.data, dict(last.headers)) == (b"\0\xff", {"X": "y", "x-two": "ü"})
        assert abs(last.time - store.now()) < 10
        with pytest.raises(NotFound):
            await stream.get(9, fresh=fresh)
        with pytest.raises(NotFound):
            await stream.last(f"{name}.none", fresh=fresh)


async def test_many_messages_are_read_in_pages(
    store: JetStream, stream: Stream, name: str
) -> None:
    """From a sequence or a time on, those that match; nothing twice."""
    await fill(store, name, *(("ab"[i % 2], b"%d" % i) for i in range(20)))
    read = [one.data async for one in stream.read(f"{name}.a", batch=3)]
    assert read == [b"%d" % i for i in range(0, 20, 2)]
    behind = [one.sequence async for one in stream.read(sequence=15, batch=4)]
    assert behind == [15, 16, 17, 18, 19, 20]
    since = (await stream.get(19)).time
    assert [one.sequence async for one in stream.read(since=since)][-2:] == [19, 20]
    assert [one async for one in stream.read(f"{name}.none")] == []


async def test_a_page_of_messages_is_bounded(
    store: JetStream, stream: Stream, name: str
) -> None:
    """By their number, or by their bytes: one at least, and how many are left is told."""
    await fill(store, name, *[("a", b"x" * 1000)] * 10)
    page, left = await stream.page(f"{name}.a", sequence=3, batch=4)
    assert ([one.sequence for one in page], left) == ([3, 4, 5, 6], 4)
    page, left = await stream.page(batch=10, max_bytes=2500)
    assert len(page) in (2, 3)
    assert left == 10 - len(page)
    page, left = await stream.page(batch=10, max_bytes=1)
    assert (len(page), left) == (1, 9)
    assert await stream.page(sequence=11) == ([], 0)


async def test_the_last_of_each_subject_is_read_at_once(
    store: JetStream, stream: Stream, name: str
) -> None:
    """However many there are."""
    await fill(store, name, *((f"k{i % 300}", b"%d" % i) for i in range(600)))
    found = await stream.last_of([f"{name}.*"])
    assert [one.data for one in found] == [b"%d" % i for i in range(300, 600)]
    assert shown(await stream.last_of([f"{name}.k1", f"{name}.k2"])) == [
        ("k1", b"301"),
        ("k2", b"302"),
    ]
    assert await stream.last_of([f"{name}.none"]) == []


async def test_a_purge_takes_what_it_says(
    store: JetStream, stream: Stream, name: str
) -> None:
    """By subject, but for the newest, or up to a sequence."""
    await fill(store, name, *(("ab"[i % 2], b"%d" % i) for i in range(10)))
    assert await stream.purge(f"{name}.a", keep=2) == 3
    assert await stream.purge(before=5) == 2
    left = [one.sequence async for one in stream.read()]
    assert left == [6, 7, 8, 9, 10]
    assert await stream.purge() == 5
    assert (await stream.info()).messages == 0
    await store.publish(f"{name}.a", b"")
    assert (await stream.info()).first == 11
    with pytest.raises(InvalidArgument, match="not both"):
        await stream.purge(keep=1, before=2)


async def test_one_message_is_deleted(
    store: JetStream, stream: Stream, name: str
) -> None:
    """And is not there any more."""
    await fill(store, name, ("a", b"1"), ("a", b"2"))
    await stream.delete(1)
    with pytest.raises(NotFound):
        await stream.get(1)
    with pytest.raises((NotFound, InvalidArgument)):
        await stream.delete(1)


async def test_a_stream_that_denies_it_keeps_all(store: JetStream, name: str) -> None:
    """Neither purged nor picked from."""
    stream = await store.create_stream(
        StreamConfig(
            name=name,
            subjects=(name,),
            storage="memory",
            deny_delete=True,
            deny_purge=True,
        )
    )
    await store.publish(name, b"1")
    with pytest.raises(FailedPrecondition, match="not permitted"):
        await stream.purge()
    with pytest.raises(FailedPrecondition, match="not permitted"):
        await stream.delete(1)
    assert (await stream.info()).messages == 1
    await store.delete_stream(name)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"allow_schedules": True, "discard": "new"}, "cannot use discard new"),
        ({"discard_per_subject": True}, "requires discard new"),
        ({"subjects": (">",)}, "requires? no-ack to be true"),
        ({"subjects": ("$JS.API.X",)}, "require no-ack to be true"),
    ],
)
async def test_options_that_contradict_are_a_sentence(
    store: JetStream, name: str, options: dict[str, Any], text: str
) -> None:
    """The server's own."""
    config = StreamConfig(name=name, subjects=(name,), storage="memory")
    with pytest.raises((InvalidArgument, FailedPrecondition), match=text):
        await store.create_stream(replace(config, **options))


async def test_replicas_need_a_cluster(store: JetStream, kind: str, name: str) -> None:
    """Else it is a sentence."""
    config = StreamConfig(name=name, subjects=(name,), storage="memory", replicas=3)
    if kind == "cluster":
        assert (await (await store.create_stream(config)).info()).leader
        await store.delete_stream(name)
        return
    with pytest.raises(FailedPrecondition, match="not supported in non-clustered"):
        await store.create_stream(config)
