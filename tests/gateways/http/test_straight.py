"""kitmsg_gateways.http.straight: the connection's own loop keeps what aiohttp's promises."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg import Service, endpoint
from kitmsg_gateways.http import straight

if TYPE_CHECKING:
    from kitmsg import Kit

BODY = b'{"text":"abc"}'


class Echo(Service):
    """Tells how long a text is."""

    @endpoint
    async def size(self, text: str) -> int:
        """Return the length of `text`."""
        return len(text)


@pytest.fixture
async def echo(hub: Kit) -> Echo:
    """An echo on the bus."""
    echo = Echo()
    await hub.serve(echo)
    return echo


@pytest.fixture(params=[True, False], ids=["straight", "aiohttp"], autouse=True)
def way(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run on our loop, and on the one of an aiohttp it was not tried with."""
    monkeypatch.setattr(straight, "_IS_TRIED", request.param)


def post(path: str, body: bytes, *headers: str) -> bytes:
    """Return a request with a body."""
    length = f"Content-Length: {len(body)}"
    lines = [f"POST {path} HTTP/1.1", "Host: x", length, *headers, "", ""]
    return "\r\n".join(lines).encode() + body


async def test_pipelined_requests_are_answered_in_order(hub, echo, start):
    """Many requests in one go come back one after the other on their connection."""
    call = await start(hub)
    bodies = [b'{"text":"%b"}' % (b"a" * n) for n in range(1, 41)]
    requests = [post("/echo/size", body) for body in bodies]
    requests.append(post("/echo/size", b'{"text":""}', "Connection: close"))
    reply = await call.raw(b"".join(requests))
    answers = [
        part.rpartition(b"\r\n\r\n")[2] for part in reply.split(b"HTTP/1.1 ")[1:]
    ]
    assert answers == [b"%d" % n for n in [*range(1, 41), 0]]


async def test_a_body_that_nobody_reads_does_not_spoil_the_next_request(
    hub, echo, start
):
    """What a refused request still sends is dropped; the connection goes on."""
    call = await start(hub)
    refused = post("/nowhere", b"x" * 200_000)
    reply = await call.raw(refused + post("/echo/size", BODY, "Connection: close"))
    assert reply.startswith(b"HTTP/1.1 404 ")
    assert b"\r\n\r\n3" in reply


async def test_an_idle_connection_ends(memory_bus, start):
    """A connection without a request is closed after the keep-alive time."""
    call = await start(memory_bus, keepalive_timeout=0.05)
    async with asyncio.timeout(5):
        reply = await call.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 200 ")


async def test_a_broken_request_ends_the_connection(hub, echo, start):
    """It is refused, once; what follows is not read."""
    call = await start(hub)
    reply = await call.raw(b"no HTTP\r\n\r\n" + post("/echo/size", BODY))
    assert reply.split(b" ")[1] == b"400"
    assert reply.count(b"request_id") == 1
