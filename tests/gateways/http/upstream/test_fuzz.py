"""A server that answers with anything: every call ends, in a `KitError` or a result."""

from __future__ import annotations

import asyncio
import contextlib
import random
import zlib
from typing import TYPE_CHECKING

import pytest

from kitmsg.context import Context
from kitmsg.errors import KitError
from kitmsg.schema.calls import StreamRequest
from kitmsg_gateways.http.upstream import Upstream, UpstreamOptions
from tests.gateways.http.upstream.test_streams import Ticker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

INPUTS = 250
HEADS = [
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 404 Not Found\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: /b\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n",
    b"HTTP/1.1 204 No Content\r\n",
    b"HTTP/1.0 200\r\n",
    b"HTTP/1.1 999 \xff\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n",
    b"",
]
HEADERS = [
    b"Content-Type: application/json\r\n",
    b"Content-Type: application/msgpack\r\n",
    b"Content-Type: application/problem+json\r\n",
    b"Content-Type: text/event-stream\r\n",
    b"Content-Type: application/x-ndjson\r\n",
    b"Content-Type: \xff/\x00;;;\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Content-Encoding: deflate\r\n",
    b"Content-Encoding: br\r\n",
    b"Retry-After: Fri, 99 Foo\r\n",
    b"Retry-After: \xb2\r\n",
    b"X-Request-Id: a b\r\n",
    b"Set-Cookie: a=b; Expires=never\r\n",
    b"Broken\r\n",
    b"Long: " + b"x" * 20_000 + b"\r\n",
]
BODIES = [
    b"",
    b"hello",
    b'{"detail":{},"code":[],"error":7,"field":{},"retry_after":1e999}',
    b'{"code":"not_found","detail":"x","error":"Broken","details":{"at":"no"}}',
    b"5\r\n12345\r\n0\r\n\r\n",
    b"zz\r\n",
    b"fffffffffffffffff\r\n",
    zlib.compress(b"1" * 100),
    zlib.compress(b"1" * 100)[:20],
    b"data: 1\n\nevent: end\ndata: x\n\n",
    b"[" * 5000,
    b"\x81\xa1a\xc4\xff",
    bytes(range(256)),
]


@pytest.fixture
async def liar() -> AsyncIterator[tuple[str, Callable[[bytes], None]]]:
    """A server that sends what it is told and hangs up; gives its address."""
    said = [b""]

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(said[0])
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}", lambda data: said.__setitem__(0, data)
    server.close()


def _answer(chance: random.Random) -> bytes:
    head = chance.choice(HEADS)
    headers = b"".join(chance.sample(HEADERS, chance.randrange(4)))
    data = bytearray(head + headers + b"\r\n" + chance.choice(BODIES))
    for _ in range(chance.choice((0, 0, 1, 3))):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(
        data[: chance.choice((None, None, chance.randrange(1, len(data) + 1)))]
    )


async def test_whatever_a_server_sends_the_call_ends(
    liar: tuple[str, Callable[[bytes], None]], caplog: pytest.LogCaptureFixture
) -> None:
    """Answers of all kinds, cut and damaged: 250 of them, each to a call and to a stream."""
    caplog.set_level("CRITICAL")
    url, say = liar
    chance = random.Random(7)
    options = UpstreamOptions(timeout=5.0, max_response_bytes=10_000)
    refused = 0
    async with (
        Upstream(url, {"get": "GET /a"}, name="a", options=options) as plain,
        Upstream(url, Ticker, options=options) as typed,
    ):
        for _ in range(INPUTS):
            say(_answer(chance))
            try:
                await plain.endpoint("get")(Context(), {})
            except KitError:
                refused += 1
            ask = typed.remotes["ticks"].declaration.signature.bind(1)
            with contextlib.suppress(KitError):
                stream = await typed.endpoint("ticks")(
                    Context(), StreamRequest(ask, None)
                )
                async for _item in stream:
                    pass
    assert refused > INPUTS // 4
