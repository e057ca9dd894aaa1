"""Endpoints that stream, as a service declares them and a typed client calls them."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from kitmsg import (
    BusinessError,
    Context,
    Kit,
    Service,
    Supervision,
    current,
    endpoint,
)
from kitmsg.codec import JSON
from kitmsg.errors import (
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NoResponders,
    ResourceExhausted,
    Unavailable,
)
from kitmsg.transport.inbox import inbox_of


class Reading(msgspec.Struct):
    """One value at one time."""

    at: int
    value: float


class TooFar(BusinessError):
    """The counter went too far."""

    limit: int


class Meter(Service):
    """Streams numbers of several kinds."""

    max_streams = 3

    def __init__(self) -> None:
        self.closed: list[str] = []
        self.seen: list[Any] = []

    @endpoint(raises=[TooFar])
    async def count(self, upto: int, fails: bool = False) -> AsyncIterator[Reading]:
        """Count up to a number."""
        for i in range(upto):
            yield Reading(i, i / 2)
        if fails:
            raise TooFar(upto)

    @endpoint
    async def ticks(self) -> AsyncGenerator[str, None]:
        """Go on until somebody stops it."""
        try:
            while True:
                yield "tick"
                await asyncio.sleep(1)
        finally:
            self.closed.append("ticks")

    @endpoint
    async def total(self, start: int, readings: AsyncIterator[Reading]) -> float:
        """Add up what the caller sends."""
        async for reading in readings:
            if reading.value < 0:
                raise ValueError("secret")
            start += int(reading.value)
        return start

    @endpoint
    async def shout(
        self, ctx: Context, words: AsyncIterator[str]
    ) -> AsyncIterator[str]:
        """Say each word louder."""
        self.seen.append((ctx.endpoint, ctx.caller, current() is ctx))
        async for word in words:
            yield word.upper()

    @endpoint
    async def made(self, upto: int) -> AsyncIterator[int]:
        """Return an iterator instead of being one."""

        async def numbers() -> AsyncIterator[int]:
            for i in range(upto):
                yield i

        return numbers()

    @endpoint(timeout=0.2)
    async def short(self) -> AsyncIterator[int]:
        """Has 0.2 s."""
        yield 1
        await asyncio.sleep(60)

    @endpoint
    async def broken(self) -> AsyncIterator[int]:
        """Fail in a way nobody declared."""
        yield 1
        raise RuntimeError("hunter2")

    @endpoint
    async def early(self, words: AsyncIterator[str]) -> str:
        """Answer after the first word."""
        return await anext(words)

    @endpoint
    async def wide(self) -> AsyncIterator[bytes]:
        """Give an item that no bus carries."""
        yield b"x" * (2 << 20)


async def of(*items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item


@pytest.fixture
async def meter(kit: Kit) -> Meter:
    """A service on the bus in memory, and itself to look into."""
    service = Meter()
    await kit.serve(service)
    return service


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


async def test_a_declared_error_after_items(kit: Kit, meter: Meter) -> None:
    """The items come first, then the error with its fields."""
    counting = kit.client(Meter).count(2, fails=True)
    assert [(await anext(counting)).at for _ in range(2)] == [0, 1]
    with pytest.raises(TooFar) as caught:
        await anext(counting)
    assert caught.value.limit == 2


async def test_an_undeclared_error_says_nothing(
    kit: Kit, meter: Meter, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller gets `Internal` and a request id; the log has the rest."""
    with pytest.raises(Internal) as caught:
        async for _ in kit.client(Meter).broken():
            pass
    assert "hunter2" not in str(caught.value)
    assert "hunter2" in caplog.text


async def test_leaving_the_loop_ends_the_work(kit: Kit, meter: Meter) -> None:
    """``break`` is enough: the generator of the service runs its ``finally``."""
    async for _ in kit.client(Meter).ticks():
        break
    await asyncio.sleep(0.01)
    assert meter.closed == ["ticks"]
    assert len(inbox_of(kit.bus)) == 0


async def test_closing_ends_the_work(kit: Kit, meter: Meter) -> None:
    """`aclosing` works as with any generator."""
    async with aclosing(kit.client(Meter).ticks()) as ticks:
        assert await anext(ticks) == "tick"
    await asyncio.sleep(0.01)
    assert meter.closed == ["ticks"]


async def test_cancelling_the_reader_ends_the_work(kit: Kit, meter: Meter) -> None:
    """A task that is cancelled while it reads takes the service's work with it."""

    async def read() -> None:
        async for _ in kit.client(Meter).ticks():
            pass

    reading = asyncio.create_task(read())
    await asyncio.sleep(2.5)
    reading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reading
    del reading
    await asyncio.sleep(0.01)
    assert meter.closed == ["ticks"]


async def test_an_abandoned_call_is_never_sent(kit: Kit, meter: Meter) -> None:
    """A stream that nobody reads is not opened at all."""
    kit.client(Meter).ticks()
    await asyncio.sleep(1)
    assert kit.hosts[0].snapshots()["meter.ticks"].requests == 0


async def test_an_error_in_the_callers_own_stream(kit: Kit, meter: Meter) -> None:
    """It is raised as it is, and the service's work is cancelled."""

    async def broken() -> AsyncIterator[Reading]:
        yield Reading(1, 1.0)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await kit.client(Meter).total(0, broken())
    await asyncio.sleep(0.01)
    assert kit.hosts[0].snapshots()["meter.total"].cancelled == 1


async def test_a_service_may_answer_early(kit: Kit, meter: Meter) -> None:
    """The rest of the caller's items is not waited for, endless as they may be."""
    asked = 0

    async def endless() -> AsyncIterator[str]:
        nonlocal asked
        while True:
            asked += 1
            yield "word"
            await asyncio.sleep(1)

    assert await kit.client(Meter).early(endless()) == "word"
    before = asked
    await asyncio.sleep(10)
    assert asked == before


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


async def test_a_declared_timeout_is_for_the_whole_stream(
    kit: Kit, meter: Meter
) -> None:
    """At its end the caller has `DeadlineExceeded`."""
    stream = kit.client(Meter).short()
    assert await anext(stream) == 1
    with pytest.raises(DeadlineExceeded):
        await anext(stream)


async def test_a_stream_has_no_default_deadline(kit: Kit, meter: Meter) -> None:
    """What bounds an ask, 5 s, does not bound a stream."""
    stream = kit.client(Meter, timeout=1.0).ticks()
    for _ in range(100):
        assert await anext(stream) == "tick"


async def test_a_callers_deadline_bounds_a_stream(kit: Kit, meter: Meter) -> None:
    """A turn with 2 s left cannot read for longer."""

    class Reader(Service):
        @endpoint(timeout=2.0)
        async def read(self) -> int:
            n = 0
            with contextlib.suppress(DeadlineExceeded):
                async for _ in kit.client(Meter).ticks():
                    n += 1
            return n

    await kit.serve(Reader())
    with pytest.raises(DeadlineExceeded):
        await kit.client(Reader, timeout=30).read()
    await asyncio.sleep(0.1)
    assert meter.closed == ["ticks"]


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


async def test_draining_ends_idle_streams_soon(kit: Kit, meter: Meter) -> None:
    """One that gives nothing for a second is ended `Unavailable`, not after 25 s."""
    idle = kit.client(Meter).shout(of_never())
    reading = asyncio.create_task(anext(idle))
    await asyncio.sleep(0.1)
    loop = asyncio.get_running_loop()
    before = loop.time()
    await kit.hosts[0].drain()
    assert loop.time() - before < 3  # on the kit's own clock, which tells no real time
    with pytest.raises(Unavailable, match=r"meter.shout is stopping"):
        await reading


async def test_draining_lets_streams_that_move_finish(kit: Kit) -> None:
    """An upload that goes on comes to its end."""

    class Store(Service):
        @endpoint
        async def put(self, parts: AsyncIterator[int]) -> int:
            return sum([part async for part in parts])

    async def slowly() -> AsyncIterator[int]:
        for _ in range(20):
            await asyncio.sleep(0.5)
            yield 1

    host = await kit.serve(Store())
    putting = asyncio.create_task(kit.client(Store).put(slowly()))
    await asyncio.sleep(1)
    await host.drain()
    assert await putting == 20


class Feed(Service):
    """Gives as fast as it is read."""

    drain_timeout = 300.0

    @endpoint
    async def numbers(self, upto: int) -> AsyncIterator[int]:
        for n in range(upto):
            yield n


async def read(kit: Kit, upto: int, burst: int, pause: float) -> list[int]:
    """Read a stream in bursts, with a pause after each."""
    seen = []
    async for n in kit.client(Feed).numbers(upto):
        seen.append(n)
        if len(seen) % burst == 0:
            await asyncio.sleep(pause)
    return seen


@pytest.mark.parametrize(("burst", "pause"), [(1, 0.02), (1, 0.3), (100, 2.0)])
async def test_draining_lets_a_slow_steady_reader_finish(
    kit: Kit, burst: int, pause: float
) -> None:
    """Fifty items a second, few, or in lumps: such a stream has all of the drain timeout."""
    upto = 800
    host = await kit.serve(Feed())
    reading = asyncio.create_task(read(kit, upto, burst, pause))
    await asyncio.sleep(1)
    await host.drain()
    assert await reading == list(range(upto))


async def test_draining_does_not_wait_for_a_reader_that_reads_no_more(
    kit: Kit,
) -> None:
    """It has 5 s, not the drain timeout; what it reads later ends `Unavailable`."""
    host = await kit.serve(Feed())
    reading = asyncio.create_task(read(kit, 1000, 10, 1000.0))
    await asyncio.sleep(1)
    loop = asyncio.get_running_loop()
    before = loop.time()
    await host.drain()
    assert 4 < loop.time() - before < 7  # on the kit's own clock
    with pytest.raises(Unavailable, match=r"feed.numbers is stopping"):
        await reading


async def of_never() -> AsyncIterator[str]:
    await asyncio.sleep(10_000)
    yield ""


async def test_a_cancelled_open_reaches_the_service(kit: Kit) -> None:
    """A caller that is cancelled before the stream was taken leaves nothing behind."""

    class Slow(Service):
        @endpoint
        async def ticks(self) -> AsyncIterator[int]:
            await asyncio.sleep(1000)
            yield 1

    await kit.serve(Slow())
    reading = asyncio.create_task(anext(kit.client(Slow).ticks()))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises((asyncio.CancelledError, Cancelled)):
        await reading
    await asyncio.sleep(0.1)
    assert len(inbox_of(kit.bus)) == 0


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


async def test_a_restarted_instance_lets_its_streams_go(kit: Kit) -> None:
    """They would hold the old one for ever; a caller may ask the new one at once."""

    class Fragile(Service):
        supervision = Supervision(policy="restart")

        @endpoint
        async def ticks(self) -> AsyncIterator[int]:
            yield id(self)
            await asyncio.sleep(1000)

        @endpoint
        async def fail(self) -> None:
            raise RuntimeError("oh")

    await kit.serve(Fragile)
    client = kit.client(Fragile)
    ticks = client.ticks()
    old = await anext(ticks)
    with pytest.raises(Internal):
        await client.fail()
    with pytest.raises(Unavailable):
        await anext(ticks)
    assert await anext(client.ticks()) != old


async def test_a_stream_that_another_thread_collects(kit: Kit, meter: Meter) -> None:
    """The garbage collector may run anywhere; the service's work still ends."""
    ticks = kit.client(Meter).ticks()
    await anext(ticks)
    holder = [ticks]
    del ticks
    await asyncio.to_thread(holder.clear)
    await asyncio.sleep(0.1)
    assert meter.closed == ["ticks"]


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


def _blocking() -> None:
    class Wrong(Service):
        @endpoint
        def numbers(self) -> Iterator[int]:
            yield 1


def _untold() -> None:
    class Wrong(Service):
        @endpoint
        async def numbers(self, xs: AsyncIterator) -> None:  # type: ignore[type-arg]
            ...


def _two() -> None:
    class Wrong(Service):
        @endpoint
        async def numbers(
            self, a: AsyncIterator[int], b: AsyncIterator[int]
        ) -> None: ...


def _odd() -> None:
    class Wrong(Service):
        @endpoint
        async def numbers(self) -> AsyncIterator[object]:
            yield object()


def _gokit() -> None:
    class Wrong(Service):
        @endpoint(wire="gokit")
        async def numbers(self) -> AsyncIterator[int]:
            yield 1


def _unyielding() -> None:
    class Wrong(Service):
        @endpoint
        async def numbers(self) -> int:  # type: ignore[misc]
            yield 1


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (_blocking, "blocking generator"),
        (_untold, "does not say of what"),
        (_two, "second stream"),
        (_odd, "no wire form"),
        (_gokit, "Go kit has no streams"),
        (_unyielding, "yields, so its result is AsyncIterator"),
    ],
)
def test_what_cannot_be_declared(make: Any, match: str) -> None:
    """A mistake is told when the class is defined."""
    with pytest.raises(TypeError, match=match):
        make()
