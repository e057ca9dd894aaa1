"""What every key-value store promises: one suite, run on memory and on a real server."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

import pytest

from kitmsg.errors import (
    Aborted,
    AlreadyExists,
    Disconnected,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
)
from kitmsg.jetstream import Bucket

if TYPE_CHECKING:
    from kitmsg.bus import Bus
    from kitmsg.jetstream import Changes, Entry, JetStream, KeyValue


@pytest.fixture(params=["memory", "nats", "nats-uvloop"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def bucket(store: JetStream) -> KeyValue:
    return await store.key_value(fresh(), Bucket(storage="memory"))


def fresh() -> str:
    """Return a name that no other bucket of the server has."""
    return f"b-{uuid.uuid4().hex}"


async def take(changes: Changes, count: int) -> list[tuple[str, bytes, bool]]:
    """Return the next `count` entries: key, value and whether it is gone."""
    async with asyncio.timeout(10):
        found = [await anext(changes) for _ in range(count)]
    return [(e.key, e.value, e.gone) for e in found]


async def gone(changes: Changes, *keys: str) -> None:
    """Return when `keys` were seen to go."""
    left = set(keys)
    async with asyncio.timeout(10):
        while left:
            entry = await anext(changes)
            if entry.gone:
                left.remove(entry.key)


async def test_a_value_comes_back(bucket: KeyValue) -> None:
    """With the revision of its write; binary and empty values too."""
    revision = await bucket.put("orders.a/1=x", b"\0\xff\r\n")
    entry = await bucket.get("orders.a/1=x")
    assert (entry.key, entry.value, entry.revision, entry.gone) == (
        "orders.a/1=x",
        b"\0\xff\r\n",
        revision,
        False,
    )
    await bucket.put("empty", b"")
    assert (await bucket.get("empty")).value == b""


async def test_revisions_grow(bucket: KeyValue) -> None:
    """Every write to the bucket has a larger one."""
    numbers = [await bucket.put(key, b"") for key in ("a", "b", "a", "c")]
    assert numbers == sorted(set(numbers))


async def test_a_key_without_a_value_is_not_found(bucket: KeyValue) -> None:
    """The sentence names key and bucket."""
    with pytest.raises(NotFound, match=f"'nope' is not in the bucket {bucket.name}"):
        await bucket.get("nope")


async def test_of_those_that_create_one_wins(bucket: KeyValue) -> None:
    """The others hear that it exists, and the winner's value stays."""
    tries = [bucket.create("lock", str(i).encode()) for i in range(10)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    won = [i for i, result in enumerate(results) if isinstance(result, int)]
    assert len(won) == 1
    assert [type(r) for r in results if not isinstance(r, int)] == [AlreadyExists] * 9
    assert (await bucket.get("lock")).value == str(won[0]).encode()


async def test_of_those_that_update_one_wins(bucket: KeyValue) -> None:
    """A lost race is `Aborted`, and the sentence names the revision."""
    revision = await bucket.create("n", b"0")
    tries = [bucket.update("n", str(i).encode(), revision) for i in range(10)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sorted(type(r).__name__ for r in results) == ["Aborted"] * 9 + ["int"]
    with pytest.raises(Aborted, match=f"'n' in the bucket .* revision {revision}$"):
        await bucket.update("n", b"late", revision)


async def test_counting_together_loses_nothing(bucket: KeyValue) -> None:
    """Read, compare and set, again where the race was lost: no count is lost."""
    await bucket.put("n", b"0")

    async def add() -> None:
        while True:
            entry = await bucket.get("n")
            try:
                more = str(int(entry.value) + 1).encode()
                await bucket.update("n", more, entry.revision)
            except Aborted:
                continue
            return

    await asyncio.gather(*[add() for _ in range(12)])
    assert (await bucket.get("n")).value == b"12"


async def test_a_deleted_key_is_gone_and_can_be_created(bucket: KeyValue) -> None:
    """Deleting one that is not there is no error."""
    await bucket.put("a", b"1")
    await bucket.delete("a")
    await bucket.delete("a")
    await bucket.delete("never")
    with pytest.raises(NotFound):
        await bucket.get("a")
    assert await bucket.keys() == []
    await bucket.create("a", b"2")
    assert (await bucket.get("a")).value == b"2"


async def test_a_delete_may_expect_a_revision(bucket: KeyValue) -> None:
    """Somebody else's write is not deleted."""
    first = await bucket.put("a", b"1")
    second = await bucket.put("a", b"2")
    with pytest.raises(Aborted):
        await bucket.delete("a", first)
    await bucket.delete("a", second)
    with pytest.raises(Aborted):
        await bucket.update("a", b"3", second)


async def test_a_key_is_gone_after_its_time(bucket: KeyValue) -> None:
    """Not before; a watch sees it go, and it can be created again."""
    async with bucket.watch() as changes:
        before = await bucket.now()
        revision = await bucket.create("a", b"1", ttl=0.4)  # rounded up to one second
        await bucket.create("b", b"1")
        await bucket.update("b", b"2", (await bucket.get("b")).revision, ttl=1)
        assert (await bucket.get("a")).revision == revision
        await gone(changes, "a", "b")
        assert await bucket.now() >= before + 1
    await bucket.create("a", b"again")


async def test_a_new_value_has_its_own_time(bucket: KeyValue) -> None:
    """What the value before it had does not end it."""
    async with bucket.watch() as changes:
        await bucket.put("a", b"1", ttl=1)
        await bucket.put("a", b"2")
        await bucket.put("b", b"1", ttl=1)
        await gone(changes, "b")
    assert (await bucket.get("a")).value == b"2"


async def test_keys_are_those_with_values(bucket: KeyValue) -> None:
    """Sorted; a pattern chooses among them."""
    for key in ("b.2", "a.1", "a.2", "c"):
        await bucket.put(key, b"x" * 1000)
    await bucket.delete("a.2")
    assert await bucket.keys() == ["a.1", "b.2", "c"]
    assert await bucket.keys("a.*") == ["a.1"]
    assert await bucket.keys("nothing.>") == []


async def test_a_watch_begins_with_what_is_there(bucket: KeyValue) -> None:
    """Then it shows each change, removals too, and only of the keys it is for."""
    await bucket.put("a.1", b"1")
    await bucket.put("b.1", b"other")
    async with bucket.watch("a.*") as changes:
        assert await take(changes, 1) == [("a.1", b"1", False)]
        await bucket.put("b.1", b"other still")
        await bucket.put("a.2", b"2")
        assert await take(changes, 1) == [("a.2", b"2", False)]
        await bucket.delete("a.1")
        assert await take(changes, 1) == [("a.1", b"", True)]


async def test_a_watch_of_an_empty_bucket_sees_the_first_write(
    bucket: KeyValue,
) -> None:
    """Nothing is missed between its begin and the write."""
    async with bucket.watch() as changes:
        await bucket.put("a", b"1")
        assert await take(changes, 1) == [("a", b"1", False)]


async def test_a_watch_does_not_begin_with_what_is_gone(bucket: KeyValue) -> None:
    """A removal is shown where the value was."""
    await bucket.put("a", b"1")
    await bucket.delete("a")
    async with bucket.watch() as changes:
        await bucket.put("b", b"1")
        assert await take(changes, 1) == [("b", b"1", False)]


async def test_a_slow_watch_sees_the_last_value(bucket: KeyValue) -> None:
    """What is in between may be missed; each key stands in it once at most."""
    async with bucket.watch() as changes:
        for i in range(500):
            await bucket.put("fast", str(i).encode())
        await bucket.put("end", b"")
        seen: list[Entry] = []
        async with asyncio.timeout(10):
            while not seen or seen[-1].key != "end":
                seen.append(await anext(changes))
        assert seen[-2].value == b"499"


async def test_a_time_lies_between_those_around_it(bucket: KeyValue) -> None:
    """The clock of `created` is that of `now`."""
    before = await bucket.now()
    await bucket.put("a", b"")
    entry = await bucket.get("a")
    assert before <= entry.created <= await bucket.now()


async def test_a_bucket_is_found_again(store: JetStream, bucket: KeyValue) -> None:
    """Under its name, whatever options come along."""
    await bucket.put("a", b"1")
    again = await store.key_value(bucket.name, Bucket(storage="file", max_bytes=7))
    assert (await again.get("a")).value == b"1"


async def test_those_that_open_at_once_share_it(store: JetStream) -> None:
    """Whoever is second finds it made."""
    name = fresh()
    buckets = await asyncio.gather(*[store.key_value(name) for _ in range(5)])
    await buckets[0].put("a", b"1")
    assert (await buckets[4].get("a")).value == b"1"


async def test_a_full_bucket_refuses(store: JetStream) -> None:
    """Nothing is lost for it, and a key may be replaced by a shorter value."""
    bucket = await store.key_value(fresh(), Bucket(storage="memory", max_bytes=2500))
    await bucket.put("a", b"x" * 2000)
    with pytest.raises(ResourceExhausted):
        await bucket.put("b", b"x" * 2000)
    assert await bucket.keys() == ["a"]


@pytest.mark.parametrize(
    "key", ["", ".a", "a.", "a..b", "a b", "*", "a.>", "ä", "a\r\n"]
)
async def test_a_malformed_key_is_refused(bucket: KeyValue, key: str) -> None:
    """By every door, and nothing is stored."""
    for attempt in (
        bucket.get(key),
        bucket.put(key, b""),
        bucket.create(key, b""),
        bucket.update(key, b"", 1),
        bucket.delete(key),
    ):
        with pytest.raises(InvalidArgument, match="is no key"):
            await attempt
    assert await bucket.keys() == []


async def test_malformed_patterns_and_names_are_refused(
    store: JetStream, bucket: KeyValue
) -> None:
    """A pattern is a key, or one with wildcards where they may stand."""
    with pytest.raises(InvalidArgument, match="is no pattern of keys"):
        await bucket.keys("a.>.b")
    with pytest.raises(InvalidArgument, match="is no pattern of keys"):
        async with bucket.watch(""):
            pass
    for name in ("", "a.b", "a b", "a>"):
        with pytest.raises(InvalidArgument, match="is no name of a bucket"):
            await store.key_value(name)


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf")])
async def test_a_time_to_live_is_positive(bucket: KeyValue, ttl: float) -> None:
    """Zero is no way to say never."""
    with pytest.raises(ValueError, match="ttl must be positive"):
        await bucket.put("a", b"", ttl=ttl)


async def test_a_value_that_is_too_long_is_refused(bucket: KeyValue, bus: Bus) -> None:
    """One that just fits comes back whole."""
    with pytest.raises(InvalidArgument):
        await bucket.put("a", b"x" * (bus.max_payload + 1))
    await bucket.put("a", b"x" * bus.max_payload)
    assert len((await bucket.get("a")).value) == bus.max_payload


async def test_a_closed_bus_has_no_store(
    store: JetStream, bucket: KeyValue, bus: Bus
) -> None:
    """It is said at once."""
    await bus.close()
    for attempt in (store.key_value("x"), bucket.get("a"), bucket.put("a", b"")):
        with pytest.raises(Disconnected):
            await attempt
