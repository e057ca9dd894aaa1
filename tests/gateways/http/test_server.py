"""Sockets, limits, slow and broken clients, start and stop."""

from __future__ import annotations

import asyncio
import errno
import gzip
from typing import TYPE_CHECKING, Any

import pytest

import kitmsg_gateways.http
from kitmsg import Kit, Service, endpoint
from kitmsg.bus.memory import MemoryBus
from kitmsg.errors import FailedPrecondition
from kitmsg_gateways.http import GatewayOptions
from kitmsg_gateways.http.bind import Parameters
from kitmsg_gateways.http.methods import Mounted
from kitmsg_gateways.http.router import Route, parse_route
from kitmsg_gateways.http.server import GatewayServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Echo(Service):
    """Gives back."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.release = asyncio.Event()
        self.cancelled = asyncio.Event()

    @endpoint
    async def size(self, text: str) -> int:
        return len(text)

    @endpoint
    async def wait(self) -> str:
        self.entered.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return "done"


@pytest.fixture
async def echo(hub: Kit) -> Echo:
    """An echo on the bus."""
    echo = Echo()
    await hub.serve(echo)
    return echo


def post(path: str, body: bytes, *headers: str) -> bytes:
    """Return a POST as it is on the wire."""
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def test_a_body_over_the_limit_is_413(hub, echo, start):
    """Told by its length, or found out while reading."""
    call = await start(hub, max_body_bytes=1000)
    limit = "is longer than 1000 bytes"
    response, body = await call("POST", "/echo/size", json={"text": "x" * 2000})
    assert (response.status, limit in body["detail"]) == (413, True)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b"x" * 100

    response, body = await call(
        "POST",
        "/echo/size",
        data=chunks(),
        headers={"Content-Type": "application/json"},
    )
    assert (response.status, limit in body["detail"]) == (413, True)
    response, body = await call("POST", "/echo/size", json={"text": "x" * 900})
    assert body == 900


async def test_a_small_compressed_body_may_not_grow_over_the_limit(hub, echo, start):
    """What counts is what comes out."""
    call = await start(hub, max_body_bytes=100_000)
    response, _ = await call(
        "POST",
        "/echo/size",
        data=gzip.compress(b'{"text":"' + b"x" * 1_000_000 + b'"}'),
        headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
    )
    assert response.status == 413
    response, body = await call(
        "POST",
        "/echo/size",
        data=gzip.compress(b'{"text":"xx"}'),
        headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
    )
    assert body == 2


async def test_the_bus_limits_bodies_too(start):
    """A body that the bus cannot carry is refused before it is sent."""
    bus = MemoryBus(max_payload=6000)
    call = await start(bus)
    response, _ = await call("POST", "/x/y", data=b"x" * 5000)
    assert response.status == 404
    call.server.table.router.add(gateways_route())
    response, _ = await call("POST", "/x/y", json={"x": "x" * 5000})
    assert response.status == 413


def gateways_route() -> Route[Mounted]:
    """Return a route to an endpoint nobody serves."""
    mounted = Mounted(
        service="x",
        version="1.0.0",
        name="y",
        subject="x.y",
        description="",
        metadata={},
        hash="",
        schema=None,
        parameters=Parameters(None),
    )
    return parse_route("POST /x/y", mounted)


async def test_expect_100_continue(hub, echo, start):
    """Told to go on when the body is wanted, refused before it is sent when not."""
    call = await start(hub, max_body_bytes=1000)
    body = b'{"text":"abc"}'
    reader, writer = await asyncio.open_connection("127.0.0.1", call.server.port)
    expect = ("Content-Type: application/json", "Expect: 100-continue")
    async with asyncio.timeout(10):
        writer.write(post("/echo/size", b"", *expect, f"Content-Length: {len(body)}"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        reply = await reader.read()
    writer.close()
    assert reply.startswith(b"HTTP/1.1 200 ")
    assert reply.endswith(b"\r\n\r\n3")
    reply = await call.raw(
        post("/echo/size", b"", *expect, "Content-Length: 5000"), until_closed=False
    )
    assert reply.startswith(b"HTTP/1.1 413 ")
    reply = await call.raw(
        post("/echo/size", b"", "Expect: miracles", "Content-Length: 5"),
        until_closed=False,
    )
    assert reply.startswith(b"HTTP/1.1 417 ")


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost x\r\n\r\n",
        b"GET / HTTP/1.1\r\n: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nBad Name: c\r\n\r\n",
        b"POST /echo/size HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /echo/size HTTP/1.1\r\nHost: x\r\nContent-Length: a\r\n\r\n",
        b"POST /echo/size HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n"
        b"Content-Length: 2\r\n\r\nab",
        b"POST /echo/size HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /echo/size HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /echo/size HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\n"
        b"Content-Length: 4\r\n\r\nabcd",
        bytes(range(256)) + b"\r\n\r\n",
    ],
)
async def test_bytes_that_are_no_http_are_400(hub, echo, start, data, caplog):
    """Told as a problem, without a stack trace in answer or log; the next one is well."""
    call = await start(hub, body_timeout=2)
    reply = await call.raw(data, until_closed=False)
    assert reply.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert b"application/problem+json" in reply
    assert b"aiohttp" not in reply
    assert "Traceback" not in caplog.text
    assert (await call("GET", "/healthz"))[0].status == 200


@pytest.mark.parametrize(
    "data",
    [
        b"GET /" + b"x" * 3000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 3000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 50 + b"\r\n",
    ],
)
async def test_headers_over_the_limit_are_refused(memory_bus, start, data):
    """A long line, a long header, many headers."""
    call = await start(memory_bus, max_header_bytes=1000, max_headers=20)
    reply = await call.raw(data)
    assert reply.split(b" ")[1] == b"431"
    assert b"application/problem+json" in reply


async def test_a_failure_of_the_gateway_is_not_blamed_on_the_client(
    hub, echo, start, monkeypatch, caplog
):
    """What fails around a call is a 500 with a request id, and stands in the log."""

    def fail(*_: object) -> None:
        raise LookupError("hunter2")

    outside = await start(hub)
    monkeypatch.setattr(outside.server.metrics, "observe", fail)
    body = b'{"text":"ann"}'
    answer = await outside.raw(post("/echo/size", body, f"Content-Length: {len(body)}"))
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"hunter2" not in answer
    assert b"request id" in answer
    assert "hunter2" in caplog.text


async def test_a_client_slow_with_its_headers_is_408(memory_bus, start):
    """It cannot hold a connection by sending a byte now and then."""
    call = await start(memory_bus, header_timeout=0.05)
    reply = await call.raw(b"GET / HTTP/1.1\r\nHost:")
    assert reply.startswith(b"HTTP/1.1 408 ")


async def test_a_client_slow_with_its_body_is_408(hub, echo, start):
    """Nor by promising a body that does not come."""
    call = await start(hub, body_timeout=0.05)
    headers = ("Content-Type: application/json", "Content-Length: 100")
    reply = await call.raw(post("/echo/size", b"{", *headers), until_closed=False)
    assert reply.startswith(b"HTTP/1.1 408 ")


async def test_headers_in_pieces_are_fine(hub, echo, start):
    """As long as they come in time; the clock stops when they are complete."""
    call = await start(hub)
    body = b'{"text":"abc"}'
    data = post(
        "/echo/size",
        body,
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", call.server.port)
    for at in range(len(data)):
        writer.write(data[at : at + 1])
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        reply = await reader.read()
    writer.close()
    assert reply.endswith(b"\r\n\r\n3")


async def test_a_whole_url_is_taken_as_its_path(memory_bus, start):
    """As a proxy may send it (RFC 9112, section 3.2.2)."""
    call = await start(memory_bus)
    reply = await call.raw(
        b"GET http://other/healthz?a=b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    assert reply.startswith(b"HTTP/1.1 200 ")


async def test_what_names_no_path_finds_nothing(memory_bus, start):
    """CONNECT and dots lead nowhere; OPTIONS for the whole server is answered."""
    call = await start(memory_bus)
    for line, status in (
        (b"CONNECT other:80", b"404"),
        (b"GET /../healthz", b"404"),
        (b"OPTIONS *", b"204"),
    ):
        reply = await call.raw(
            line + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            until_closed=False,
        )
        assert reply.split(b" ")[1] == status, line


async def test_an_idle_connection_is_closed(memory_bus, start):
    """After the keep-alive time, with or without a request before."""
    call = await start(memory_bus, keepalive_timeout=0.05)
    assert await call.raw(b"") == b""
    reply = await call.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 200 ")


async def test_pipelined_requests_are_answered_in_order(hub, echo, start):
    """One connection, several requests at once."""
    call = await start(hub)
    one = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    reply = await call.raw(one * 3 + last)
    assert reply.count(b"HTTP/1.1 200 ") == 3
    assert reply.count(b"HTTP/1.1 404 ") == 1
    assert reply.rindex(b"HTTP/1.1 200") < reply.index(b"HTTP/1.1 404")


async def test_too_many_requests_at_once_are_429(hub, echo, start):
    """Refused at once, with a word on when to come back."""
    call = await start(hub, max_concurrent=1)
    first = asyncio.create_task(call("POST", "/echo/wait"))
    await echo.entered.wait()
    response, body = await call("POST", "/echo/size", json={"text": "x"})
    assert response.status == 429
    assert "full" in body["detail"]
    assert response.headers["Retry-After"] == "1"
    assert (await call("GET", "/healthz"))[0].status == 200
    echo.release.set()
    assert (await first)[1] == "done"
    assert (await call("POST", "/echo/size", json={"text": "x"}))[1] == 1


async def test_stop_finishes_what_is_in_flight(hub, echo, start, until):
    """No new connections, but an answer for what was asked; the bus stays open."""
    call = await start(hub, drain_timeout=10)
    port = call.server.port
    first = asyncio.create_task(call("POST", "/echo/wait"))
    await echo.entered.wait()
    stopping = asyncio.create_task(call.server.stop())
    await until(lambda: call.server.is_draining)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    assert not stopping.done()
    echo.release.set()
    response, body = await first
    assert (response.status, body) == (200, "done")
    assert response.headers["Connection"] == "close"
    await stopping
    assert hub.bus.is_connected
    assert await hub.call("echo.size", text="abc") == 3


async def test_stop_does_not_wait_for_ever(hub, echo, start):
    """After its time it cancels what is left, in the service too."""
    call = await start(hub, drain_timeout=0.05)
    first = asyncio.create_task(call("POST", "/echo/wait"))
    await echo.entered.wait()
    await call.server.stop()
    async with asyncio.timeout(10):
        await echo.cancelled.wait()
    await asyncio.gather(first, return_exceptions=True)


async def test_stop_closes_idle_connections(memory_bus, start):
    """A client that only keeps its connection does not hold the gateway up."""
    call = await start(memory_bus, drain_timeout=3600)
    reader, writer = await asyncio.open_connection("127.0.0.1", call.server.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(10):
        await reader.readuntil(b"}")
        await call.server.stop()
        assert await reader.read() == b""
    writer.close()
    await call.server.stop()


async def test_a_port_that_is_taken_is_said(memory_bus, start):
    """As the system's own error, and nothing is left running."""
    call = await start(memory_bus)
    with pytest.raises(OSError, match="address already in use") as caught:
        await start(memory_bus, port=call.server.port)
    assert caught.value.errno == errno.EADDRINUSE


async def test_a_gateway_that_is_not_started_has_no_port(memory_bus):
    """And stopping it does nothing."""
    server = GatewayServer(memory_bus)
    with pytest.raises(FailedPrecondition, match="not started"):
        assert server.port
    await server.stop()


async def test_serve_takes_a_kit_or_a_bus(hub, memory_bus):
    """With host and port beside the options."""
    for on in (hub, memory_bus):
        options = GatewayOptions(port=1)
        server = await kitmsg_gateways.http.serve(on, options, host="127.0.0.1", port=0)
        assert server.url == f"http://127.0.0.1:{server.port}"
        await server.stop()


async def test_without_aiohttp_it_says_what_to_install(memory_bus, monkeypatch):
    """Not a traceback."""
    import sys

    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(FailedPrecondition, match=r"pip install 'kitmsg\[http\]'"):
        await kitmsg_gateways.http.serve(memory_bus)
    with pytest.raises(FailedPrecondition, match=r"pip install 'kitmsg\[http\]'"):
        await kitmsg_gateways.http.run()


@pytest.mark.parametrize("name", ["timeout", "max_body_bytes", "drain_timeout"])
def test_options_are_checked(name):
    """A limit of nothing is a mistake, and named."""
    options: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=f"{name} must be positive"):
        GatewayOptions(**options)


@pytest.mark.parametrize("line", [b"GET /healthz", b"GET /healthz HTTP/2.0"])
async def test_another_version_of_http_is_refused(memory_bus, start, line):
    """In ours, and the connection ends."""
    call = await start(memory_bus)
    reply = await call.raw(line + b"\r\nHost: x\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 505 ")
    assert b"Connection: close" in reply
    assert call.server.metrics.count("other", "unimplemented") == 1


async def test_what_is_no_http_is_counted(memory_bus, start):
    """Beside the requests, under a name of its own."""
    call = await start(memory_bus)
    reply = await call.raw(b"nonsense\r\n\r\n")
    assert b" 400 " in reply.partition(b"\r\n")[0]
    assert call.server.metrics.count("other", "invalid_argument") == 1
