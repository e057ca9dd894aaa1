"""Endpoints that stream, as a service declares them and a typed client calls them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kitmsg import (
    Kit,
    Service,
    endpoint,
)
from kitmsg.codec import JSON
from kitmsg.errors import (
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NoResponders,
    ResourceExhausted,
)
from tests.service.meter import Meter, Reading, of


async def test_items_out(kit: Kit, meter: Meter) -> None:
    """Items are typed, in order, and end well."""
    got = [reading async for reading in kit.client(Meter).count(3)]
    assert got == [Reading(0, 0.0), Reading(1, 0.5), Reading(2, 1.0)]


async def test_items_out_in_json(kit: Kit, meter: Meter) -> None:
    """The codec of the request is that of the items."""
    client = kit.client(Meter, codec=JSON)
    assert [r.at async for r in client.count(2)] == [0, 1]


async def test_items_in(kit: Kit, meter: Meter) -> None:
    """What the caller streams comes beside its other arguments."""
    readings = of(Reading(1, 1.0), Reading(2, 2.0))
    assert await kit.client(Meter).total(10, readings) == 13
    assert await kit.client(Meter).total(start=1, readings=of()) == 1


async def test_both_ways(kit: Kit, meter: Meter) -> None:
    """Each item is answered before the next one is sent."""
    said: asyncio.Queue[str] = asyncio.Queue()

    async def words() -> AsyncIterator[str]:
        while (word := await said.get()) != ".":
            yield word

    answers = kit.client(Meter).shout(words())
    for word in ("a", "b"):
        said.put_nowait(word)
        assert await anext(answers) == word.upper()
    said.put_nowait(".")
    assert [word async for word in answers] == []
    assert meter.seen == [("meter.shout", "", True)]


async def test_a_coroutine_that_returns_an_iterator(kit: Kit, meter: Meter) -> None:
    """Both ways to write a stream work, and awaiting the call opens it."""
    assert [n async for n in await kit.client(Meter).made(3)] == [0, 1, 2]


async def test_an_item_that_does_not_fit(kit: Kit, meter: Meter) -> None:
    """The service refuses it by name; nothing of it reaches the method."""
    wrong: Any = of(Reading(1, 1.0), {"at": "soon", "value": 1})
    with pytest.raises(InvalidArgument, match="item 2 does not fit: field 'at'"):
        await kit.client(Meter).total(0, wrong)
    numbers: Any = of(1)
    with pytest.raises(InvalidArgument, match="item 1 does not fit: expected str"):
        await kit.client(Meter).early(numbers)


async def test_arguments_are_checked_as_in_a_local_call(kit: Kit, meter: Meter) -> None:
    """A stream that is missing or no stream is a TypeError here."""
    client: Any = kit.client(Meter)
    with pytest.raises(TypeError, match="asynchronous iterator as 'readings'"):
        await client.total(1)
    with pytest.raises(TypeError, match="must be an asynchronous iterator, not list"):
        await client.total(1, readings=[1])
    with pytest.raises(InvalidArgument, match="'upto'"):
        await anext(client.count("x"))


async def test_too_many_streams_are_refused(kit: Kit, meter: Meter) -> None:
    """Past `max_streams` the next one is `ResourceExhausted`, with a time to come back."""
    open_ = [kit.client(Meter).ticks() for _ in range(3)]
    for ticks in open_:
        await anext(ticks)
    with pytest.raises(ResourceExhausted) as caught:
        await anext(kit.client(Meter).ticks())
    assert caught.value.retry_after
    await open_.pop().aclose()
    await asyncio.sleep(0.01)
    assert await anext(kit.client(Meter).ticks()) == "tick"


async def test_streams_do_not_take_the_place_of_turns(kit: Kit) -> None:
    """A service with one turn at a time still answers while a stream is open."""

    class Narrow(Service):
        concurrency = 1
        mailbox = 0

        @endpoint
        async def ticks(self) -> AsyncIterator[int]:
            yield 1
            await asyncio.sleep(1000)

        @endpoint
        async def hello(self) -> str:
            return "hello"

    await kit.serve(Narrow())
    client = kit.client(Narrow)
    ticks = client.ticks()
    assert await anext(ticks) == 1
    assert await client.hello() == "hello"


async def test_nobody_serves_the_stream(kit: Kit) -> None:
    """`NoResponders`, with the nearest name there is."""
    with pytest.raises(NoResponders, match=r"meter\.count"):
        await anext(kit.client(Meter).count(1))


async def test_a_plain_ask_for_a_stream_is_told_how(kit: Kit, meter: Meter) -> None:
    """Whoever does not know that an endpoint streams hears it."""
    with pytest.raises(FailedPrecondition, match="meter.count is a stream"):
        await kit.call("meter.count", upto=1)


async def test_an_item_too_long_for_the_bus(kit: Kit, meter: Meter) -> None:
    """The fault is the service's, and named with both sizes."""
    with pytest.raises(Internal, match=r"an item of meter.wide is \d+ bytes"):
        await anext(kit.client(Meter).wide())


async def test_what_discovery_says(kit: Kit, meter: Meter) -> None:
    """INFO names the direction; the schemas name what goes in and what comes out."""
    found = Meter.__declarations__
    kinds = {name: d.metadata().get("kit.stream", "") for name, d in found.items()}
    assert kinds["count"] == "out"
    assert kinds["total"] == "in"
    assert kinds["shout"] == "both"
    schema = found["total"].describe()
    assert schema["items"]["$ref"] == "#/$defs/Reading"
    assert schema["request"]["$defs"]["MeterTotalRequest"]["required"] == ["start"]
    assert schema["response"] == {"type": "number"}
    assert schema["stream"] == "in"
    assert found["count"].describe()["response"]["$ref"] == "#/$defs/Reading"


async def test_streams_over_nats(kit_nats: Kit) -> None:
    """The same over a real server: out, in, both, and leaving."""
    meter = Meter()
    await kit_nats.serve(meter)
    client = kit_nats.client(Meter)
    assert len([r async for r in client.count(2000)]) == 2000
    assert await client.total(1, of(Reading(1, 1.0))) == 2
    assert [w async for w in client.shout(of("a", "b"))] == ["A", "B"]
    async for _ in client.ticks():
        break
    await kit_nats.bus.flush()
    while not meter.closed:  # the cancellation is on its way
        await asyncio.sleep(0.01)
