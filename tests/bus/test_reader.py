"""kitmsg.bus.reader: what a connection does with bytes that come at bad moments.

A server of our own making says just what a test wants, when it wants.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from kitmsg.bus.nats import NatsBus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

INFO = b'INFO {"server_id":"x","version":"2.15.1","headers":true,"max_payload":1048576}\r\n'


class Scripted:
    """Shakes hands as a NATS server does, answers every PING, and says what it is told."""

    def __init__(self) -> None:
        self.connections: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        self.url = ""
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.writers.append(writer)
        writer.write(INFO)
        is_known = False
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                if line == b"PING\r\n":
                    writer.write(b"PONG\r\n")
                if line.startswith(b"SUB it ") and not is_known:
                    is_known = True
                    await self.connections.put(writer)
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    scripted = Scripted()
    listener = await asyncio.start_server(scripted.serve, "127.0.0.1", 0)
    scripted.url = f"nats://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    yield scripted
    listener.close()
    for writer in scripted.writers:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.fixture(params=[True, False], ids=["fast", "plain"])
async def bus(
    request: pytest.FixtureRequest, server: Scripted
) -> AsyncIterator[NatsBus]:
    bus = await NatsBus.connect(server.url, fast=request.param)
    yield bus
    await bus.close()


def listen(bus: NatsBus) -> tuple[int, asyncio.Queue[bytes]]:
    """Subscribe to ``it``; returns the subscription's id and what comes."""
    seen: asyncio.Queue[bytes] = asyncio.Queue()
    subscription = bus.subscribe("it", lambda message: seen.put_nowait(message.data))
    return subscription._sid, seen


async def test_a_message_cut_off_by_a_reconnect_is_not_joined_to_the_next(
    server: Scripted, bus: NatsBus
) -> None:
    """Half a message that the old connection brought dies with it."""
    sid, seen = listen(bus)
    async with asyncio.timeout(10):
        first = await server.connections.get()
        first.write(b"MSG it %d 10\r\n01234" % sid)
        await first.drain()
        await asyncio.sleep(0)
        first.close()
        second = await server.connections.get()
        second.write(b"MSG it %d 5\r\nwhole\r\n" % sid)
        assert await seen.get() == b"whole"
    assert seen.empty()
    assert bus.stats.reconnects == 1


async def test_control_lines_between_pieces_of_messages(
    server: Scripted, bus: NatsBus
) -> None:
    """PING, INFO and +OK may come anywhere between messages, in any pieces."""
    sid, seen = listen(bus)
    stream = (
        b"PING\r\nMSG it %d 3\r\none\r\n+OK\r\n"
        + INFO
        + b"MSG it %d 3\r\ntwo\r\nPING\r\n"
    ) % (sid, sid)
    async with asyncio.timeout(10):
        writer = await server.connections.get()
        for i in range(0, len(stream), 7):
            writer.write(stream[i : i + 7])
            await writer.drain()
            await asyncio.sleep(0)
        assert [await seen.get(), await seen.get()] == [b"one", b"two"]
    assert bus.is_connected


async def test_what_is_not_of_the_protocol_ends_the_connection_only(
    server: Scripted, bus: NatsBus
) -> None:
    """A stream out of step is left; the next connection works."""
    sid, seen = listen(bus)
    async with asyncio.timeout(10):
        writer = await server.connections.get()
        writer.write(b"HELO there\r\n")
        again = await server.connections.get()
        again.write(b"MSG it %d 2\r\nok\r\n" % sid)
        assert await seen.get() == b"ok"
