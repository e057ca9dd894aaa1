"""Streams of a remote HTTP API as items, and items as a streamed body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator  # noqa: TC003  # read when a class is defined
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from aiohttp import web

import kitmsg
import kitmsg_gateways.http
from kitmsg import BusinessError, Code, Service, endpoint
from kitmsg.errors import (
    DataLoss,
    KitError,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from kitmsg_gateways.http.upstream import OpenApi, Upstream, UpstreamOptions

if TYPE_CHECKING:
    from kitmsg.bus.memory import MemoryBus
    from tests.gateways.http.upstream.conftest import Remote


class Broken(BusinessError):
    """It broke."""

    code = Code.ABORTED
    at: int


class Tick(msgspec.Struct):
    number: int
    data: bytes = b""


class Ticker(Service):
    """Streams each way."""

    @endpoint(http="GET /ticks/{upto}", raises=[Broken])
    async def ticks(self, upto: int, fails: bool = False) -> AsyncIterator[Tick]:
        for number in range(upto):
            yield Tick(number, bytes([number]))
        if fails:
            raise Broken(upto)

    @endpoint
    async def blobs(self, count: int) -> AsyncIterator[bytes]:
        for number in range(count):
            yield b"x" * number

    @endpoint
    async def total(self, numbers: AsyncIterator[int], start: int) -> int:
        return start + sum([number async for number in numbers])


class Ends(Service):
    """A stream whose end a test sees."""

    name = "ends"

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    @endpoint
    async def forever(self) -> AsyncIterator[int]:
        try:
            for number in range(1_000_000_000):
                yield number
                await asyncio.sleep(0)
        finally:
            self.ended.set()


@pytest.fixture
async def there() -> AsyncIterator[str]:
    """A gateway with a ticker behind it, on a bus of its own; gives its address."""
    async with kitmsg.connect(bus=kitmsg.bus.memory.MemoryBus()) as kit:
        await kit.serve(Ticker())
        server = await kitmsg_gateways.http.serve(kit, port=0)
        yield server.url
        await server.stop()


async def test_streams_of_a_gateway_come_back_typed(
    there: str, memory_bus: MemoryBus
) -> None:
    """Out and in, with parameters and typed errors, over the bus and without."""
    async with (
        Upstream(there, Ticker) as upstream,
        kitmsg.connect(bus=memory_bus) as kit,
    ):
        await kit.serve(upstream)
        for ticker in (upstream.client(Ticker), kit.client(Ticker)):
            got = [tick async for tick in ticker.ticks(3)]
            assert got == [Tick(0, b"\0"), Tick(1, b"\1"), Tick(2, b"\2")]
            assert [blob async for blob in ticker.blobs(4)] == [
                b"",
                b"x",
                b"xx",
                b"xxx",
            ]
            assert await ticker.total(_numbers(4), 10) == 16
            broken = ticker.ticks(2, fails=True)
            assert [(await anext(broken)).number for _ in range(2)] == [0, 1]
            with pytest.raises(Broken) as caught:
                await anext(broken)
            assert caught.value.at == 2


async def _numbers(upto: int) -> AsyncIterator[int]:
    for number in range(upto):
        yield number


async def test_a_reader_that_leaves_ends_the_stream_there(
    memory_bus: MemoryBus,
) -> None:
    """The handler on the other side is cancelled."""
    service = Ends()
    async with kitmsg.connect(bus=memory_bus) as kit:
        await kit.serve(service)
        server = await kitmsg_gateways.http.serve(kit, port=0)
        async with Upstream(server.url, Ends) as upstream:
            stream = upstream.client(Ends).forever()
            assert await anext(aiter(stream)) == 0
            await stream.aclose()
            async with asyncio.timeout(10):
                await service.ended.wait()
        await server.stop()


def _answers(remote: Remote, body: bytes, kind: str, cut: int) -> None:
    """Let `remote` send `body` in pieces of `cut` bytes."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": kind})
        await response.prepare(request)
        for at in range(0, len(body), cut):
            await response.write(body[at : at + cut])
        return response

    remote.answer = answer


def stream_of(remote: Remote, schema: dict[str, Any], **options: Any) -> Upstream:
    """Return an upstream whose one endpoint streams, from a document."""
    content = {"text/event-stream": {"schema": schema}}
    own = {"operationId": "get", "responses": {"200": {"content": content}}}
    document = {"openapi": "3.1.0", "paths": {"/s": {"get": own}}}
    return Upstream(
        remote.url, OpenApi(document), name="s", options=UpstreamOptions(**options)
    )


async def taken(kit: kitmsg.Kit, upstream: Upstream) -> list[Any]:
    """Return the items of the stream, taken over the bus."""
    from kitmsg.codec import MSGPACK
    from kitmsg.message import encode_headers
    from kitmsg.transport.opening import open_stream

    host = await kit.serve(upstream)
    block = encode_headers({"Content-Type": MSGPACK.content_type})
    try:
        stream = await open_stream(kit.bus, "s.get", b"\x80", block)
        return [msgspec.msgpack.decode(message.data) async for message in stream]
    finally:
        await host.drain(0.0)
        await upstream.close()


@pytest.mark.parametrize("cut", [1, 7, 1000])
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (
            b'\xef\xbb\xbfretry: 9\n\n: hi\n\nid: 1\ndata: {"a":\ndata: 1}\n\n'
            b"data:2\r\n\r\nevent: more\ndata: 3\n\nevent: end\ndata: {}\n\ndata: 4\n\n",
            "text/event-stream",
        ),
        (
            b'data: {"a":1}\n\ndata: 2\n\ndata: 3\n\ndata: [DONE]\n\n',
            "text/event-stream",
        ),
        (b'{"a":1}\n\n2\r\n3', "application/x-ndjson; charset=utf-8"),
    ],
)
async def test_items_are_found_however_they_arrive(
    remote: Remote, memory_bus: MemoryBus, body: bytes, kind: str, cut: int
) -> None:
    """Events and lines, cut anywhere; comments, ids and names of events do not matter."""
    _answers(remote, body, kind, cut)
    async with kitmsg.connect(bus=memory_bus) as kit:
        assert await taken(kit, stream_of(remote, {})) == [{"a": 1}, 2, 3]
    assert "text/event-stream" in remote.seen[0].headers["Accept"]
    assert "Request-Timeout" not in remote.seen[0].headers


async def test_bytes_in_items_are_bytes(remote: Remote, memory_bus: MemoryBus) -> None:
    """Where the document says base64."""
    _answers(remote, b'data: "aGk="\n\nevent: end\ndata:x\n\n', "text/event-stream", 99)
    schema = {"type": "string", "contentEncoding": "base64"}
    async with kitmsg.connect(bus=memory_bus) as kit:
        assert await taken(kit, stream_of(remote, schema)) == [b"hi"]


@pytest.mark.parametrize(
    ("body", "kind", "error"),
    [
        (b"data: 1\n\n", "text/event-stream", Unavailable),
        (b'event: error\ndata: {"x":1}\n\n', "text/event-stream", Unavailable),
        (
            b'event: error\ndata: {"type":"urn:kitmsg:error:not_found","status":404}\n\n',
            "text/event-stream",
            NotFound,
        ),
        (
            b'1\n{"type":"urn:kitmsg:error:not_found","status":404,"detail":"x"}\n',
            "application/x-ndjson",
            NotFound,
        ),
        (b"data: {\n\n", "text/event-stream", DataLoss),
        (b"data: %b\n\n" % (b"1" * 200), "text/event-stream", ResourceExhausted),
        (b"data: 1\n" * 200, "text/event-stream", ResourceExhausted),
        (b"1" * 200, "application/x-ndjson", ResourceExhausted),
    ],
)
async def test_a_stream_that_ends_badly_says_so(
    remote: Remote,
    memory_bus: MemoryBus,
    body: bytes,
    kind: str,
    error: type[KitError],
) -> None:
    """Broken off, ended by an error, not to be read, or too long."""
    _answers(remote, body, kind, 1000)
    async with kitmsg.connect(bus=memory_bus) as kit:
        with pytest.raises(error):
            await taken(kit, stream_of(remote, {}, max_response_bytes=100))


async def test_a_refusal_is_an_error_before_the_first_item(
    remote: Remote, memory_bus: MemoryBus
) -> None:
    """A status is read as for any call."""
    remote.says({"error": "nope"}, 404)
    async with kitmsg.connect(bus=memory_bus) as kit:
        with pytest.raises(NotFound, match="nope"):
            await taken(kit, stream_of(remote, {}))


class Both(Service):
    """Streams both ways."""

    @endpoint
    async def echo(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        async for item in items:
            yield item


def test_both_ways_at_once_is_refused() -> None:
    """When the upstream is made."""
    with pytest.raises(ValueError, match="both ways at once"):
        Upstream("http://api.example", Both)
