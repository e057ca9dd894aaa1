"""Streams from HTTP over a real NATS server: whole, and when something in between breaks."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from websockets.asyncio.client import connect

import kitmsg
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.bus.nats import NatsBus
from kitmsg.transport.inbox import inbox_of
from kitmsg_gateways.http.streams.formats import OCTETS, SSE
from tests.gateways.http.streams.conftest import Feed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def daemon() -> AsyncIterator[EmbeddedServer]:
    """A server of one's own, to stop and start."""
    with EmbeddedServer() as server:
        yield server


@pytest.fixture
async def far(daemon, start):
    """A gateway and a service, each with its own connection to the server."""
    feed = Feed()
    bus = await NatsBus.connect(daemon.url)
    async with kitmsg.connect(daemon.url) as kit:
        await kit.serve(feed)
        call = await start(bus)
        yield call, kit, bus
        await call.server.stop()
    await bus.close()


async def test_all_ways_over_nats(far, until):
    """Events, bytes, an upload and a WebSocket; nothing is left of them."""
    call, kit, bus = far
    async with call.session.get("/count/500", headers={"Accept": SSE}) as response:
        assert (await response.read()).count(b"\ndata: ") == 501
    async with call.session.get("/download?n=200") as response:
        assert len(await response.read()) == 200_000
    headers = {"Content-Type": OCTETS}

    async def body() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b"x" * 100_000

    _, result = await call("POST", "/upload/x", data=body(), headers=headers)
    assert result["size"] == 5_000_000
    url = f"ws://127.0.0.1:{call.server.port}/echo?prefix="
    async with connect(url) as socket:
        for i in range(1000):
            await socket.send(str(i).join('""'))
        await socket.send("")
        found = [message async for message in socket]
    assert found == [f'"{i}"' for i in range(1000)]
    await until(lambda: len(inbox_of(bus)) == 0)
    await until(lambda: len(inbox_of(kit.bus)) == 0)


async def test_a_service_that_is_lost(far, until):
    """Its streams end with a problem, not with a silence."""
    call, kit, bus = far
    async with call.session.get("/wait?items=1") as response:
        assert await response.content.readline() == b"0\n"
        await kit.drain(0.1)
        problem = json.loads(await response.content.read())
    assert problem["status"] == 503
    await until(lambda: len(inbox_of(bus)) == 0)


async def test_a_bus_that_is_lost(far, daemon, until):
    """Streams end with 503, in the words of each protocol; new ones work afterwards."""
    call, _, bus = far
    back = asyncio.Event()
    bus.watch(lambda is_up: back.set() if is_up else None)
    url = f"ws://127.0.0.1:{call.server.port}/wait?items=1"
    events = {"Accept": SSE}
    async with (
        call.session.get("/wait?items=1", headers=events) as response,
        connect(url) as socket,
    ):
        await response.content.readuntil(b"data: 0\n\n")
        assert await socket.recv() == "0"
        daemon.kill()
        told = await response.content.read()
        assert told.startswith(b"event: error\ndata: ")
        assert json.loads(told.split(b"data: ")[1])["status"] == 503
        assert isinstance(await socket.recv(), bytes)
        await socket.wait_closed()
        assert socket.close_code == 4503
    daemon.start()
    await asyncio.wait_for(back.wait(), 10)

    async def works() -> bool:
        async with call.session.get("/count/2") as response:
            body: bytes = await response.read()
            return body == b"0\n1\n"

    async with asyncio.timeout(10):
        while not await works():
            await asyncio.sleep(0.05)
