"""Attacks on memory: each door stays under its budget, and answers others meanwhile.

A door runs in a process of its own, whose peak of memory the kernel tells.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import grpc.aio
import pytest
from h2.connection import H2Connection
from h2.events import StreamEnded, StreamReset

import kitmsg
from kitmsg import Service, endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from kitmsg.bus.nats import NatsBus

BUDGET = 256 << 20  # as without a word
SLACK = 32 << 20  # what the interpreter and its allocator keep beside it

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the peak of memory is read from Linux's /proc"
)

DOOR = """
import asyncio, importlib, sys
import kitmsg

async def main(kind, url, budget):
    package = importlib.import_module(f"kitmsg_gateways.{kind}")
    async with kitmsg.connect(url) as kit:
        options = package.GatewayOptions(port=0, max_held_bytes=int(budget))
        server = await package.serve(kit, options)
        print(server.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        print(server.budget.held, server.budget.refused, flush=True)
        await server.stop()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def anyio_backend() -> str:
    """Run on plain asyncio, as gRPC's core wants."""
    return "asyncio"


class Echo(Service):
    """Answers."""

    @endpoint(http="GET /hello")
    async def hello(self) -> str:
        return "hello"

    @endpoint
    async def size(self, data: bytes) -> int:
        return len(data)

    @endpoint
    async def count(self, items: AsyncIterator[bytes]) -> int:
        return len([item async for item in items])


class Door:
    """A gateway in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port
        self.before = self.peak()

    def peak(self) -> int:
        """Return the most bytes that the process has had in memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(each for each in status.splitlines() if each.startswith("VmHWM"))
        return int(line.split()[1]) * 1024

    @property
    def grown(self) -> int:
        """Bytes by which the peak has grown since the door opened."""
        return self.peak() - self.before


@pytest.fixture
async def door(
    nats_server: Any, nats_bus: NatsBus
) -> AsyncIterator[Callable[..., Any]]:
    """Give a function that opens a door of a kind to a service."""
    async with contextlib.AsyncExitStack() as stack:
        kit = await stack.enter_async_context(kitmsg.connect(bus=nats_bus))
        await kit.serve(Echo())

        async def start(kind: str) -> Door:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", DOOR, kind, nats_server.url, str(BUDGET)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            stack.push_async_callback(process.wait)
            stack.callback(process.kill)
            assert process.stdout is not None
            async with asyncio.timeout(30):
                return Door(process, int(await process.stdout.readline()))

        yield start


async def connections(port: int, count: int, first: bytes) -> list[Any]:
    """Return so many connections that have each begun with the same bytes."""
    found = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(first)
        found.append((reader, writer))
    return found


async def flooded(streams: list[Any], data: bytes) -> None:
    """Send the same bytes on each connection, as far as the other side lets us."""

    async def send(writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(3):
                writer.write(data)
                await writer.drain()

    await asyncio.gather(*(send(writer) for _, writer in streams))


async def answered(port: int) -> bool:
    """Tell whether a well-behaved client gets its answer."""
    url = f"http://127.0.0.1:{port}/hello"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status == 200


def close(streams: list[Any]) -> None:
    """Close connections."""
    for _, writer in streams:
        writer.transport.abort()


async def test_unfinished_heads(door):
    """600 connections with 126 header lines of 8 kB each, and no end."""
    http = await door("http")
    streams = await connections(http.port, 600, b"GET /hello HTTP/1.1\r\nHost: x\r\n")
    lines = b"".join(b"X-%d: %b\r\n" % (n, b"x" * 8000) for n in range(126))
    await flooded(streams, lines)
    assert await answered(http.port)
    close(streams)
    assert http.grown < BUDGET + SLACK


async def test_heads_that_just_fit(door):
    """They are held by many at once; those that are slow give way to others."""
    http = await door("http")
    head = b"GET /hello HTTP/1.1\r\nHost: x\r\n" + b"X: %b\r\n" % (b"x" * 8000) * 3
    streams = await connections(http.port, 900, head)
    assert await answered(http.port)
    close(streams)
    assert http.grown < BUDGET + SLACK


async def test_unfinished_bodies(door):
    """200 bodies of 1 MB, of which the last byte never comes."""
    http = await door("http")
    head = (
        b"POST /echo/size HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
        b"Content-Type: application/octet-stream\r\n\r\n"
    )
    streams = await connections(http.port, 200, head)
    await flooded(streams, b"x" * 999_999)
    assert await answered(http.port)
    close(streams)
    assert http.grown < BUDGET + SLACK


async def test_unfinished_frames(door):
    """200 Thrift frames of 4 MB, of which the last byte never comes."""
    thrift = await door("thrift")
    call = b"\x80\x01\x00\x01\x00\x00\x00\x09Echo:size\x00\x00\x00\x01\x0b\x00\x01"
    size = (4 << 20) - 64
    message = call + size.to_bytes(4) + b"x" * size + b"\x00"
    streams = await connections(thrift.port, 200, len(message).to_bytes(4))
    await flooded(streams, message[:-1])
    reader, writer = await asyncio.open_connection("127.0.0.1", thrift.port)
    writer.write(b"\x80\x01\x00\x01\x00\x00\x00\x05hello\x00\x00\x00\x01\x00")
    async with asyncio.timeout(20):
        assert await reader.readuntil(b"hello\x00")
    writer.close()
    close(streams)
    assert thrift.grown < BUDGET + SLACK


class Attack:
    """An HTTP/2 connection that begins many messages and ends none."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._h2 = H2Connection()
        self.sent = 0

    @classmethod
    async def connect(cls, port: int) -> Attack:
        """Return a new connection."""
        found = cls(*await asyncio.open_connection("127.0.0.1", port))
        found._h2.initiate_connection()
        found._writer.write(found._h2.data_to_send())
        return found

    async def flood(self, path: str, *, streams: int, size: int) -> None:
        """Open streams, and send as much of a message on each as may be sent."""
        head = [
            *((":method", "POST"), (":scheme", "http"), (":path", path)),
            *((":authority", "x"), ("content-type", "application/grpc")),
            ("te", "trailers"),
        ]
        left: dict[int, bytes] = {}
        for _ in range(streams):
            stream = self._h2.get_next_available_stream_id()
            self._h2.send_headers(stream, head)
            left[stream] = b"\0" + size.to_bytes(4) + b"x" * (size - 1)
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(3):
                while left:
                    self._send(left)
                    await self._writer.drain()
                    data = await self._reader.read(1 << 16)
                    if not data:
                        return
                    for event in self._h2.receive_data(data):
                        if isinstance(event, StreamEnded | StreamReset):
                            left.pop(event.stream_id or 0, None)

    def _send(self, left: dict[int, bytes]) -> None:
        for stream in list(left):
            while rest := left[stream]:
                window = self._h2.local_flow_control_window(stream)
                count = min(window, self._h2.max_outbound_frame_size, len(rest))
                if count <= 0:
                    break
                self._h2.send_data(stream, rest[:count])
                left[stream] = rest[count:]
                self.sent += count
        self._writer.write(self._h2.data_to_send())

    def close(self) -> None:
        """End it."""
        self._writer.transport.abort()


@pytest.mark.parametrize("method", ["Size", "Count"])
async def test_unfinished_messages(door, method):
    """100 gRPC streams on one connection with 3.9 MB each, and no end of a message."""
    target = await door("grpc")
    attack = await Attack.connect(target.port)
    await attack.flood(f"/echo.Echo/{method}", streams=100, size=3_900_000)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{target.port}") as channel:
        hello = channel.unary_unary("/echo.Echo/Hello")
        answer = await hello(b"", timeout=20, wait_for_ready=True)
        assert b"hello" in answer
    attack.close()
    assert target.grown < BUDGET + SLACK
