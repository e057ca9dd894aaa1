"""A log that many follow at a door: on a store in memory and virtual time, and on a server."""

from __future__ import annotations

import asyncio
import contextlib
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

import kitmsg
from kitmsg import Event
from kitmsg.auth import Principal
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.bus.memory import MemoryBus
from kitmsg.discovery.events import CatalogEvent
from kitmsg.errors import (
    AlreadyExists,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from kitmsg.events.declared import Declared, apply, plan
from kitmsg.events.event import facts_of, schema_hash
from kitmsg.middleware import rate_limit
from kitmsg.schema.jsonschema import json_schema
from kitmsg.testing.loop import VirtualTimeLoop
from kitmsg_gateways.edge.events import (
    EventDoor,
    Following,
    Posted,
    Publishing,
    read_since,
)
from kitmsg_gateways.edge.events.feed import Feed
from kitmsg_gateways.edge.options import EventOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kitmsg import Kit
    from kitmsg.context import Context
    from kitmsg_gateways.edge.events import Follower


class Placed(Event, subject="orders.placed.{order_id}"):
    order_id: str
    total: Decimal = Decimal(1)
    text: str = ""


@pytest.fixture(params=["memory", "nats"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def anyio_backend(kind: str) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop} if kind == "memory" else {}


@pytest.fixture
async def kit(kind: str) -> AsyncIterator[Kit]:
    async with contextlib.AsyncExitStack() as stack:
        if kind == "memory":
            made = kitmsg.connect(bus=MemoryBus())
        else:
            server = stack.enter_context(EmbeddedServer())
            made = kitmsg.connect(server.url, makes_streams=True)
        kit = await stack.enter_async_context(made)
        await make_stream(kit)
        yield kit


async def make_stream(kit: Kit) -> None:
    declared = Declared()
    declared.event(Placed)
    await apply(kit.jetstream, await plan(kit.jetstream, declared))


def announced(**more: Any) -> CatalogEvent:
    """Return the event as a service announces it."""
    facts = facts_of(Placed)
    usual = {
        "name": facts.name,
        "version": facts.version,
        "subject": facts.template.text,
        "stream": facts.stream.name,
        "hash": schema_hash(Placed),
        "schema": json_schema(Placed),
        "publishers": ("orders",),
        "subscribers": (),
    }
    return CatalogEvent(**{**usual, **more})


@pytest.fixture
def door(kit: Kit) -> EventDoor:
    """A door at which the event is open."""
    door = EventDoor(kit.bus, EventOptions(events=("orders.placed",)))
    door.learn([announced()])
    return door


async def read(follower: Follower, count: int) -> list[int]:
    """Return the sequences of the next events."""
    found: list[int] = []
    async with asyncio.timeout(60):
        while len(found) < count:
            batch = await anext(follower)
            found += [each.sequence for each in batch.events]
    return found


async def test_a_stream_that_is_made_anew_under_a_follower(kit, door):
    """It is noticed in a while: the follower begins again, and is told of the gap."""
    await kit.publish_many([Placed(str(n)) for n in range(3)])
    async with door.follow("orders.placed", since=1) as follower:
        assert await read(follower, 3) == [1, 2, 3]
        await kit.jetstream.delete_stream("orders")
        await make_stream(kit)
        await kit.publish(Placed("new"))
        assert await read(follower, 1) == [1]
        assert follower.gap


@pytest.mark.parametrize("what", ["start", "page"])
async def test_what_fails_when_all_followers_have_left_is_no_noise(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The error of a log is told to those that wait for it; nobody else has to hear."""

    async def fail(*_: Any) -> None:
        raise Unavailable("the store is gone")

    facts = facts_of(Placed)
    pattern = facts.template.pattern("events", {})
    stream = facts.stream.name if what == "page" else "missing"
    feed = Feed(kit.bus, kit.jetstream, stream, pattern, asyncio.Semaphore(1))
    if what == "page":
        await feed.start()
        monkeypatch.setattr(feed, "_fetch", fail)
    waiting = asyncio.ensure_future(
        feed.page(pattern, 0) if what == "page" else feed.start()
    )
    await asyncio.sleep(0)
    (task,) = (t for t in asyncio.all_tasks() if f"Feed._{what}()" in repr(t))
    waiting.cancel()
    async with asyncio.timeout(60):
        await asyncio.wait([task])
    assert not task._log_traceback  # it would be logged
    assert task.exception() is not None


async def test_a_follower_far_behind_reads_the_log(kit, door):
    """Not from what is kept here, of which there is a bounded number of bytes."""
    text = "x" * 1000
    async with door.follow("orders.placed", since=1) as follower:
        first = asyncio.create_task(read(follower, 1))
        await asyncio.sleep(0)
        await kit.publish(Placed("0"))
        found = await first
        for _ in range(6):
            await kit.publish_many([Placed(str(n), text=text) for n in range(500)])
        (feed,) = door._feeds.values()
        async with asyncio.timeout(60):
            while feed.position < 3001:
                await feed.wait()
        assert feed.floor > 1
        assert sum(batch.size for batch in feed._kept) <= 1 << 20
        found += await read(follower, 3001 - len(found))
        assert found == list(range(1, 3002))


async def test_a_message_that_is_heard_and_never_stored(kit, door):
    """A duplicate is one: the stream is asked again for a while, then not any more."""
    async with door.follow("orders.placed", since=1) as follower:
        for _ in range(3):
            await kit.publish(Placed("a"), id="same")
        assert await read(follower, 1) == [1]
        await kit.publish(Placed("b"), id="other")
        assert await read(follower, 1) == [2]
        (feed,) = door._feeds.values()
        async with asyncio.timeout(60):
            while feed._owed:
                await asyncio.sleep(0.1)


async def test_a_replica_that_is_behind_hides_nothing(kit, door, monkeypatch):
    """An answer without events is no end: the leader of the stream says where that is."""
    await kit.publish_many([Placed(str(n)) for n in range(3)])
    async with door.follow("orders.placed", since=1) as follower:
        (feed,) = door._feeds.values()
        fetch, asked = feed._fetch, 0

        async def behind(*args: Any) -> Any:
            nonlocal asked
            asked += 1
            found, left = await fetch(*args)
            return (found[: asked - 1], 0) if asked < 4 else (found, left)

        monkeypatch.setattr(feed, "_fetch", behind)
        assert await read(follower, 3) == [1, 2, 3]


async def test_an_event_that_moves_to_another_stream(door):
    """A follower is told to come back, and then reads the other."""
    async with door.follow("orders.placed", since=1) as follower:
        waiting = asyncio.create_task(anext(follower))
        await asyncio.sleep(0)
        door.learn([announced(stream="other")])
        with pytest.raises(Unavailable, match="come back"):
            await waiting
    with pytest.raises(Unavailable, match="no stream 'other'"):
        async with door.follow("orders.placed"):
            pass


async def test_an_event_that_is_hidden_under_a_follower(door):
    """It does not exist any more: not for who followed it, either."""
    async with door.follow("orders.placed", since=1) as follower:
        waiting = asyncio.create_task(anext(follower))
        await asyncio.sleep(0)
        door.learn([], hidden=["orders.placed"])
        with pytest.raises(NotFound):
            await waiting


async def test_a_batch_that_is_sent_again(kit, door):
    """All of it is known, and the sources of all are looked at."""
    batch = [
        Posted(id=str(n), source="/", data={"order_id": str(n)}) for n in range(200)
    ]
    first = await door.publish("orders.placed", batch, fields={})
    again = await door.publish("orders.placed", batch, fields={})
    assert [ack.sequence for ack in again] == [ack.sequence for ack in first]
    assert all(ack.duplicate for ack in again)
    batch[7] = Posted(id="7", source="/other", data={"order_id": "7"})
    with pytest.raises(AlreadyExists, match="another source"):
        await door.publish("orders.placed", batch, fields={})


class Watching:
    """A middleware that notes what it sees, and refuses on demand."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.refuses = ""

    def __call__(self, endpoint: Any, /) -> Any:
        async def call(ctx: Context, request: Any) -> Any:
            self.seen.append((ctx.endpoint, ctx.principal, request))
            if self.refuses == "before":
                raise PermissionDenied("not today")
            result = await endpoint(ctx, request)
            if self.refuses == "after":
                raise PermissionDenied("not this one")
            return result

        return call


def door_within(kit: Kit, *middleware: Any) -> EventDoor:
    """Return a door with middlewares, at which the event is open."""
    options = EventOptions(events=("orders.placed",))
    door = EventDoor(kit.bus, options, middleware=middleware, kind="http")
    door.learn([announced()])
    return door


async def test_a_middleware_stands_around_publishing(kit):
    """It sees who publishes what, and what it refuses is not stored."""
    watching, ann = Watching(), Principal("ann", method="key")
    door = door_within(kit, watching)
    sent = [Posted(id="1", source="/", data={"order_id": "a"})]
    await door.publish("orders.placed", sent, fields={}, principal=ann)
    assert watching.seen == [("events.orders.placed", ann, Publishing(sent))]
    watching.refuses = "before"
    other = [Posted(id="2", source="/", data={"order_id": "b"})]
    with pytest.raises(PermissionDenied, match="not today"):
        await door.publish("orders.placed", other, fields={})
    assert [each.order_id async for each in kit.events(Placed)] == ["a"]


async def test_a_middleware_may_change_who_publishes_and_for_how_long(kit):
    """It hands on another context, as around a call."""

    def renamed(endpoint: Any, /) -> Any:
        async def call(ctx: Context, request: Any) -> Any:
            assert ctx.caller == "gateway.http"
            left = ctx.remaining(asyncio.get_running_loop().time())
            assert left is not None
            assert 0 < left <= 30
            who = Principal("bob", method="key")
            return await endpoint(ctx.evolve(principal=who), request)

        return call

    door = door_within(kit, renamed)
    sent = [Posted(id="1", source="/", data={"order_id": "a"})]
    await door.publish("orders.placed", sent, fields={}, timeout=30)
    stored = await (await kit.jetstream.stream("orders")).get(1)
    assert stored.headers["ce-authid"] == "bob"
    hurried = door_within(kit, lambda call: lambda ctx, it: call(_late(ctx), it))
    with pytest.raises(DeadlineExceeded):
        await hurried.publish("orders.placed", sent, fields={})


def _late(ctx: Context) -> Context:
    return ctx.evolve(deadline=asyncio.get_running_loop().time() - 1)


async def test_a_middleware_stands_around_the_opening_of_a_log(kit):
    """One that refuses leaves no log behind that is read for nobody."""
    await kit.publish(Placed("a"))
    watching, ann = Watching(), Principal("ann", method="key")
    door = door_within(kit, watching)
    log: dict[str, Any] = {"since": 1, "goes_on": False, "principal": ann}
    async with door.follow("orders.placed", **log) as follower:
        assert await read(follower, 1) == [1]
    assert watching.seen == [
        ("events.orders.placed", ann, Following(since=1, goes_on=False))
    ]
    for watching.refuses in ("before", "after"):
        with pytest.raises(PermissionDenied):
            async with door.follow("orders.placed", since=1):
                pass
        assert door._feeds == {}


async def test_a_middleware_has_one_state_for_each_event_and_way(kit):
    """As one has for each endpoint: the second publication is one too many."""
    door = door_within(kit, rate_limit(0.001, burst=1))
    sent = [Posted(id="1", source="/", data={"order_id": "a"})]
    await door.publish("orders.placed", sent, fields={})
    with pytest.raises(ResourceExhausted):
        await door.publish("orders.placed", sent, fields={})
    async with door.follow("orders.placed", since=1) as follower:
        assert await read(follower, 1) == [1]


async def test_an_event_whose_service_left_stays_known(kit, door):
    """The log is there whoever is."""
    door.learn([])
    sent = Posted(id="1", source="/", data={"order_id": "a"})
    (ack,) = await door.publish("orders.placed", [sent], fields={})
    assert ack.sequence == 1
    async with door.follow("orders.placed", since=1, goes_on=False) as follower:
        (batch,) = [each async for each in follower]
        assert batch.events[0].data == b'{"order_id":"a"}'


async def test_what_is_not_open(kit):
    """Each way of it has its code."""
    door = EventDoor(kit.bus, EventOptions(events=("orders.placed:read", "b")))
    door.learn([announced()], hidden=["b"])
    for name in ("a", "b", ""):
        with pytest.raises(NotFound):
            door.known(name, "read")
    with pytest.raises(PermissionDenied, match="not open to publish"):
        door.known("orders.placed", "publish")
    with pytest.raises(Unavailable, match="no service on the bus"):
        EventDoor(kit.bus, EventOptions(events=("c",))).known("c", "read")


@pytest.mark.parametrize("kind", ["memory"])  # ten seconds, of virtual time
async def test_an_event_that_stays_unknown_is_warned_of_once(kit, caplog):
    """Ten seconds later, with the name that was meant: services start beside their gateway."""
    door = EventDoor(kit.bus, EventOptions(events=("orders.place", "orders.placed")))
    door.learn([])
    await asyncio.sleep(5)
    door.learn([announced()])
    assert not caplog.messages
    await asyncio.sleep(6)
    sentence = "no service on the bus publishes or subscribes to 'orders.place'"
    assert caplog.messages == [f"{sentence}; did you mean 'orders.placed'?"]
    door.learn([announced()])
    await asyncio.sleep(11)
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("kind", ["memory"])
async def test_a_door_that_is_closed_warns_of_nothing(kit, caplog):
    """Services leave before their gateway does, or beside it."""
    door = EventDoor(kit.bus, EventOptions(events=("orders.placed",)))
    door.learn([])
    door.close()
    door.learn([])
    await asyncio.sleep(11)
    assert not caplog.messages


@pytest.mark.parametrize(
    ("schema", "subject"),
    [
        ({"type": 7}, "orders.placed.{order_id}"),
        ({"$ref": "#/$defs/none"}, "orders.placed.{order_id}"),
        ({"properties": 3}, "orders.placed.{order_id}"),
        (None, "orders.placed.{order_id}"),
        ({"anyOf": [{"$ref": "#"}]}, "orders.placed.{a}.{b}"),
    ],
    ids=str,
)
async def test_hostile_announcements(kit, schema, subject):
    """Nonsense said of an event closes it, or opens it for any object; no more."""
    door = EventDoor(kit.bus, EventOptions(events=("orders.placed",)))
    door.learn([announced(schema=schema, subject=subject)])
    sent = Posted(id="1", source="/", data={"order_id": "a", "a": 1, "b": 2})
    with contextlib.suppress(InvalidArgument, Unavailable):
        await door.publish("orders.placed", [sent], fields={})


@pytest.mark.parametrize(
    ("text", "since"),
    [("", None), ("7", 7), ("#7", 7), ("1h", 400.0), ("1970-01-01T00:01:00Z", 60.0)],
)
def test_where_a_log_is_read_from(text, since):
    """A sequence, a time ago, a time."""
    assert read_since(text, now=4000.0) == since


@pytest.mark.parametrize(
    "text", ["x", "1 h", "-1", "1y", "10000-01-01", "2262-04-12", "#", "\u0661"]
)
def test_what_is_no_place_in_a_log(text):
    """A sentence says what is."""
    with pytest.raises(InvalidArgument, match="since"):
        read_since(text, now=4000.0)
