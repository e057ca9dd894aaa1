"""Who is let in, before anything is read: real sockets, many of them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from kitmsg import Service, endpoint
from kitmsg_gateways.edge import listener
from kitmsg_gateways.edge.admission import Connections, raise_file_limit
from kitmsg_gateways.edge.listener import Listener, bind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PROBE = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


class Echo(Service):
    """Gives back."""

    @endpoint
    async def back(self, text: str) -> str:
        return text


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Run on both loops: each has sockets of its own."""
    return "asyncio", {"use_uvloop": request.param}


class Client:
    """One connection, kept open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.reader, self.writer = reader, writer

    async def ask(self, data: bytes = PROBE) -> bytes:
        """Return what comes first; b"" when it was closed."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            async with asyncio.timeout(10):
                return await self.reader.read(65536)
        return b""


@pytest.fixture
async def connect() -> AsyncIterator[object]:
    """Give a function that opens connections to a gateway."""
    with contextlib.ExitStack() as stack:

        async def begin(call: Any) -> Client:
            streams = await asyncio.open_connection("127.0.0.1", call.server.port)
            stack.callback(streams[1].close)
            return Client(*streams)

        yield begin


async def test_connections_over_the_limit_are_refused(
    memory_bus, start, connect, until
):
    """At once, with a word; those that are open go on, and one that ends makes room."""
    call = await start(memory_bus, max_connections=3)
    there = [await connect(call) for _ in range(3)]
    for client in there:
        assert (await client.ask()).startswith(b"HTTP/1.1 200 ")
    extra = await connect(call)
    answer = await extra.ask(b"")
    assert answer.startswith(b"HTTP/1.1 429 ")
    assert b"Retry-After: 1" in answer
    assert (await there[0].ask()).startswith(b"HTTP/1.1 200 ")
    there[1].writer.close()
    await until(lambda: call.server.connections.open == 2)
    assert (await (await connect(call)).ask()).startswith(b"HTTP/1.1 200 ")
    assert call.server.connections.refused == 1
    assert (
        'kitmsg_gateway_connections{gateway="http"} 3'
        in call.server.metrics.exposition()
    )


async def test_one_address_does_not_get_all_of_them(memory_bus, start, connect):
    """A limit for each."""
    call = await start(memory_bus, max_connections_per_address=2)
    for _ in range(2):
        assert (await (await connect(call)).ask()).startswith(b"HTTP/1.1 200 ")
    assert (await (await connect(call)).ask(b"")).startswith(b"HTTP/1.1 429 ")


async def test_a_proxy_has_no_limit_of_its_own(memory_bus, start, connect):
    """All clients come from its address."""
    call = await start(
        memory_bus, max_connections_per_address=1, trusted_proxies=("127.0.0.0/8",)
    )
    for _ in range(4):
        assert (await (await connect(call)).ask()).startswith(b"HTTP/1.1 200 ")


def test_a_place_is_given_back_once():
    """However a connection ends."""
    connections = Connections(2, per_address=1)
    first = connections.take("192.0.2.1")
    assert first is not None
    assert connections.take("192.0.2.1") is None
    assert connections.take("::ffff:192.0.2.1") is None
    second = connections.take("192.0.2.2")
    assert second is not None
    assert connections.take("192.0.2.3") is None
    first.leave()
    first.leave()
    assert (connections.open, connections.refused) == (1, 3)
    assert connections.take("192.0.2.1") is not None


async def test_clients_that_vanish_leave_nothing(hub, start, connect, until):
    """In the middle of anything."""
    await hub.serve(Echo())
    call = await start(hub)
    body = b'{"text":"' + b"x" * 100
    head = f"POST /echo/back HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body) + 2}\r\n"
    whole = head.encode() + b"Content-Type: application/json\r\n\r\n" + body + b'"}'
    for cut in range(0, len(whole), 9):
        client = await connect(call)
        client.writer.write(whole[:cut])
        await client.writer.drain()
        client.writer.transport.abort()
    await until(lambda: call.server.connections.open == 0)
    assert (await call("POST", "/echo/back", json={"text": "x"}))[1] == "x"


async def test_a_client_that_never_reads_is_dropped(hub, start, connect, until):
    """It cannot hold an answer, and with it memory, for ever."""
    await hub.serve(Echo())
    call = await start(hub, send_timeout=0.05)
    client = await connect(call)
    client.writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_RCVBUF, 4096
    )
    client.writer.transport.pause_reading()
    body = b'{"text":"' + b"x" * 900_000 + b'"}'
    head = f"POST /echo/back HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    request = head.encode() + b"Content-Type: application/json\r\n\r\n" + body
    with contextlib.suppress(ConnectionError):
        for _ in range(12):
            client.writer.write(request)
            await client.writer.drain()
    await until(lambda: call.server.connections.open == 0)


async def test_headers_behind_another_request_are_in_time_too(hub, start, connect):
    """Half a request in one piece with a whole one holds no connection for ever."""
    await hub.serve(Echo())
    call = await start(hub, header_timeout=0.05, keepalive_timeout=0.3)
    client = await connect(call)
    answer = await client.ask(PROBE + b"GET /healthz HTTP/1.1\r\nHos")
    assert answer.startswith(b"HTTP/1.1 200 ")
    async with asyncio.timeout(10):
        rest = await client.reader.read()
    assert rest == b"" or rest.startswith(b"HTTP/1.1 408 ")


async def test_a_host_may_have_several_addresses(memory_bus, start):
    """All of them listen on one port."""
    sockets = bind("localhost", 0)
    ports = {sock.getsockname()[1] for sock in sockets}
    for sock in sockets:
        sock.close()
    assert len(ports) == 1
    call = await start(memory_bus, host="")
    assert (await call("GET", f"http://127.0.0.1:{call.server.port}/healthz"))[0].status


def test_what_cannot_be_had_is_said():
    """A port that is taken, an address that is not ours, a name that is none."""
    (taken,) = bind("127.0.0.1", 0)
    taken.listen()
    port = taken.getsockname()[1]
    with pytest.raises(OSError, match=f"127.0.0.1:{port}: address already") as caught:
        bind("127.0.0.1", port)
    assert caught.value.errno == errno.EADDRINUSE
    taken.close()
    with pytest.raises(OSError, match="cannot listen on 192.0.2.1"):
        bind("192.0.2.1", 0)
    with pytest.raises(socket.gaierror):
        bind("no.such.host.invalid", 0)


async def test_it_goes_on_when_files_run_out(
    memory_bus, start, monkeypatch, caplog, until
):
    """The error is logged, not repeated in a tight loop, and ends."""
    tried = []

    class Broken(socket.socket):
        def accept(self):
            tried.append(1)
            if len(tried) == 1:
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    monkeypatch.setattr(listener, "_WAIT_SECONDS", 0.05)
    (plain,) = bind("127.0.0.1", 0)
    broken = Broken(fileno=plain.detach())

    def make(place):
        return asyncio.Protocol()

    one = Listener([broken], make, Connections(10))
    one.start()
    _, writer = await asyncio.open_connection(*broken.getsockname())
    await until(lambda: len(tried) >= 2)
    assert "cannot accept connections: Too many open files" in caplog.text
    writer.close()
    await one.stop()


def test_the_limit_of_files_is_raised_as_far_as_it_may():
    """In a process of its own; what is left over says how many connections fit."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (300, 1000))\n"
        "from kitmsg_gateways.edge.admission import raise_file_limit\n"
        "print(raise_file_limit(400), raise_file_limit(9000))\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["400", "744", "1000"]


_SERVER = """
import asyncio, kitmsg_gateways.http
from kitmsg_gateways.http import GatewayOptions
from kitmsg import loops
from kitmsg.bus.memory import MemoryBus

async def main():
    server = await kitmsg_gateways.http.serve(MemoryBus(), GatewayOptions(port=0))
    print(server.port, flush=True)
    await asyncio.Event().wait()

loops.run(main())
"""


def test_ten_thousand_idle_connections_hold():
    """They cost some memory, and the next request is answered as before."""
    count = raise_file_limit(10_000)
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdout=subprocess.PIPE, text=True
    )
    idle: list[socket.socket] = []
    try:
        assert process.stdout is not None
        address = "127.0.0.1", int(process.stdout.readline())
        before = psutil.Process(process.pid).memory_info().rss
        began = time.monotonic()
        idle.extend(socket.create_connection(address, timeout=10) for _ in range(count))
        for one in (idle[0], idle[-1], socket.create_connection(address, timeout=10)):
            one.sendall(PROBE)
            assert one.recv(65536).startswith(b"HTTP/1.1 200 ")
            idle.append(one)
        grown = psutil.Process(process.pid).memory_info().rss - before
        took = time.monotonic() - began
        print(f"{count} idle: {grown / count / 1000:.1f} kB each, in {took:.1f} s")
        assert grown / count < 40_000
    finally:
        for one in idle:
            one.close()
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
