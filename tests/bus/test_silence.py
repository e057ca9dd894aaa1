"""Frozen servers and networks that drop everything: found, and left."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.bus.nats import NatsBus
from kitmsg.errors import Disconnected
from tests.bus.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from kitmsg.message import Message


def port(server: EmbeddedServer) -> int:
    number = urlsplit(server.url).port
    assert number is not None
    return number


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(jetstream=False) as server:
        yield server


@pytest.fixture
async def proxy(server: EmbeddedServer) -> AsyncIterator[Proxy]:
    async with Proxy(port(server)) as proxy:
        yield proxy


async def connect(url: str) -> NatsBus:
    """Connect without life signs of nats-py's own."""
    return await NatsBus.connect(url, ping_interval=600)


async def back(bus: NatsBus) -> None:
    up = asyncio.Event()
    bus.watch(lambda is_up: up.set() if is_up else None)
    await up.wait()


async def test_a_frozen_server_is_left_for_another(server: EmbeddedServer) -> None:
    """The ask fails as at a disconnect, long before its deadline; the next one works."""
    with EmbeddedServer(jetstream=False) as other:
        bus = await connect(server.url)
        bus.client.set_server_pool([server.url, other.url])
        bus.subscribe("echo", lambda m: bus.respond(m, m.data))
        server.pause()
        is_back = asyncio.create_task(back(bus))
        with pytest.raises(Disconnected) as info:
            await bus.request("echo", b"x", 60)
        assert info.value.sent
        await is_back
        assert bus.client.connected_url is not None
        assert bus.client.connected_url.port == port(other)
        assert (await bus.request("echo", b"x", 5)).data == b"x"
        await bus.close()


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_one_way_network_is_found(
    direction: str, server: EmbeddedServer, proxy: Proxy
) -> None:
    """Whichever way it is, an ask cannot be answered."""
    bus = await connect(proxy.url)
    bus.client.set_server_pool([proxy.url, server.url])
    bus.subscribe("echo", lambda m: bus.respond(m, m.data))
    await bus.flush()
    is_back = asyncio.create_task(back(bus))
    setattr(proxy, f"drops_{direction}", True)
    with pytest.raises(Disconnected):
        await bus.request("echo", b"x", 60)
    await is_back
    assert (await bus.request("echo", b"x", 5)).data == b"x"
    await bus.close()


async def test_a_flush_finds_it_too(proxy: Proxy) -> None:
    """It awaits a PONG."""
    bus = await connect(proxy.url)
    proxy.drops_down = True
    with pytest.raises(Disconnected):
        await bus.flush(60)
    await bus.close()


async def test_a_slow_service_is_not_a_silent_server(proxy: Proxy) -> None:
    """The server answers our pings meanwhile."""
    bus = await connect(proxy.url)
    loop = asyncio.get_running_loop()

    def answer_later(message: Message) -> None:
        loop.call_later(2.5, bus.respond, message, b"x")

    bus.subscribe("slow", answer_later)
    assert (await bus.request("slow", b"", 60)).data == b"x"
    assert bus.stats.reconnects == 0
    await bus.close()


async def test_a_slow_network_is_not_a_silent_one(proxy: Proxy) -> None:
    """An ask behind megabytes that leave bit by bit has time."""
    bus = await connect(proxy.url)
    bus.subscribe("echo", lambda m: bus.respond(m, m.data))
    await bus.flush()
    proxy.pause = 0.04
    for _ in range(6):
        bus.publish("nobody", bytes(1_000_000))
    assert (await bus.request("echo", b"x", 60)).data == b"x"
    assert bus.stats.reconnects == 0
    await bus.close()


async def test_a_blocked_loop_does_not_blame_the_server(server: EmbeddedServer) -> None:
    """Messages that came meanwhile are read first."""
    bus = await connect(server.url)
    async with asyncio.TaskGroup() as group:
        other = await connect(server.url)
        other.subscribe("hang", lambda _: None)
        await other.flush()
        ask = group.create_task(bus.request("hang", b"", 60))
        await asyncio.sleep(0.5)
        time.sleep(2.5)  # that is the fault
        await asyncio.sleep(0.5)
        assert bus.stats.reconnects == 0
        ask.cancel()
    await bus.close()
    await other.close()
