"""A service of streams on an in-memory bus, behind a gateway on a loopback port."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import pytest

import kitmsg
from kitmsg import BusinessError, Code, Service, endpoint
from kitmsg.errors import NotFound
from kitmsg.schema.places import header
from kitmsg.transport.inbox import inbox_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from kitmsg.bus.memory import MemoryBus


class SoldOut(BusinessError):
    """Nothing left."""

    code = Code.ALREADY_EXISTS
    template = "{sku} is sold out"
    sku: str


class Event(msgspec.Struct):
    """Something that happened, with a name of its own."""

    id: str
    text: str = ""


class Feed(Service):
    """Streams of all kinds."""

    def __init__(self) -> None:
        self.sent = 0
        self.began = asyncio.Event()
        self.ended = asyncio.Event()
        self.go_on = asyncio.Event()
        self.taken: list[Any] = []

    @endpoint(http="GET /count/{n}")
    async def count(self, n: int, step: int = 1) -> AsyncIterator[int]:
        """Count from 0."""
        for i in range(0, n * step, step):
            yield i

    @endpoint(http="GET /log")
    async def log(
        self, last: Annotated[int, header("Last-Event-ID")] = 0
    ) -> AsyncIterator[str]:
        """Give the lines of a log of five, from the one after the last seen."""
        for i in range(last, 5):
            yield f"line {i + 1}"

    @endpoint(http="GET /events")
    async def events(
        self, after: Annotated[str, header("Last-Event-ID")] = ""
    ) -> AsyncIterator[Event]:
        """Give events that have names."""
        for name in "abcd":
            if name > after:
                yield Event(name, f"the {name}")

    @endpoint(http="GET /lines")
    async def lines(self) -> AsyncIterator[str]:
        yield "two\nlines"
        yield "ünïcode"

    @endpoint(raises=[SoldOut])
    async def fail(self, after: int = 0, *, typed: bool = False) -> AsyncIterator[int]:
        """Break after some items."""
        for i in range(after):
            yield i
        raise SoldOut("tea") if typed else NotFound("no such thing")

    @endpoint(http="GET /wait")
    async def wait(self, items: int = 0) -> AsyncIterator[int]:
        """Give some items, then wait until told to end."""
        self.began.set()
        try:
            for i in range(items):
                yield i
            await self.go_on.wait()
        finally:
            self.ended.set()

    @endpoint(http="GET /flood")
    async def flood(self, n: int, size: int = 10_000) -> AsyncIterator[str]:
        """Give many items, as fast as they are taken."""
        text = "x" * size
        try:
            for _ in range(n):
                self.sent += 1
                yield text
        finally:
            self.ended.set()

    @endpoint(http="GET /download")
    async def download(self, n: int, *, fails: bool = False) -> AsyncIterator[bytes]:
        """Give bytes."""
        for i in range(n):
            yield bytes([i % 256]) * 1000
        if fails:
            raise NotFound("torn")

    @endpoint(status=202)
    async def later(self) -> AsyncIterator[int]:
        yield 1

    @endpoint(status=201)
    async def sink(self, items: AsyncIterator[int]) -> None:
        async for _ in items:
            pass

    @endpoint(http="GET /whole/{name}")
    async def whole(self, name: str) -> bytes:
        """Give a file at once."""
        return name.encode() * 10

    @endpoint
    async def total(self, items: AsyncIterator[int], start: int = 0) -> int:
        """Add up."""
        self.began.set()
        try:
            async for item in items:
                self.taken.append(item)
                start += item
        finally:
            self.ended.set()
        return start

    @endpoint(http="POST /upload/{name}")
    async def upload(
        self, name: str, data: AsyncIterator[bytes], note: str = ""
    ) -> dict[str, str | int]:
        """Say how long a file is."""
        size = 0
        async for piece in data:
            size += len(piece)
        return {"name": name, "size": size, "note": note}

    @endpoint
    async def idle_upload(self, data: AsyncIterator[bytes]) -> int:
        """Take one piece, then no more until told to."""
        first = await anext(data)
        self.began.set()
        await self.go_on.wait()
        return len(first)

    @endpoint(http="GET /echo")
    async def echo(
        self, items: AsyncIterator[str], prefix: str = ""
    ) -> AsyncIterator[str]:
        """Give back each item."""
        async for item in items:
            yield prefix + item

    @endpoint(raises=[SoldOut])
    async def refuse(self, items: AsyncIterator[int]) -> int:
        """Take nothing."""
        raise SoldOut("tea")

    @endpoint
    async def plus(self, a: int, b: int) -> int:
        """Add two numbers, without a stream."""
        return a + b


@pytest.fixture
async def feed(hub: kitmsg.Kit) -> Feed:
    """The service, on the bus."""
    feed = Feed()
    await hub.serve(feed)
    return feed


@pytest.fixture
async def call(hub, feed, start):
    """A client of a gateway in front of it."""
    return await start(hub)


@pytest.fixture
def read(call: Any) -> Callable[..., Any]:
    """Give a function that asks and returns the response and its bytes."""

    async def ask(method: str, path: str, **kwargs: Any) -> tuple[Any, bytes]:
        async with call.session.request(method, path, **kwargs) as response:
            return response, await response.read()

    return ask


@pytest.fixture
def nothing_left(memory_bus: MemoryBus, until: Any) -> Callable[[], Any]:
    """Give a function that waits until no stream is on the bus any more."""
    return lambda: until(lambda: len(inbox_of(memory_bus)) == 0)
