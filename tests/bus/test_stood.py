"""A bus knows for how long a message may have lain unread while its event loop stood still."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import pytest

    from kitmsg.bus.embedded import EmbeddedServer
    from kitmsg.bus.nats import NatsBus

BLOCKED = 0.8  # seconds


def publish(server: EmbeddedServer, subject: str) -> None:
    """Have the server send a message before this returns, whether the loop turns or not."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port)) as link:
        link.sendall(b"CONNECT {}\r\nPUB %b 0\r\n\r\nPING\r\n" % subject.encode())
        heard = b""
        while b"PONG" not in heard:
            heard += link.recv(4096)


async def test_what_came_while_the_loop_stood_still_may_be_as_old(
    nats_bus: NatsBus, nats_server: EmbeddedServer
) -> None:
    """And what comes once the rest was read is new."""
    loop = asyncio.get_running_loop()
    ages: list[float] = []
    nats_bus.subscribe("stood", lambda _: ages.append(nats_bus.stood(loop.time())))
    await nats_bus.flush()
    publish(nats_server, "stood")
    await nats_bus.flush()
    publish(nats_server, "stood")
    time.sleep(BLOCKED)  # that is the point
    while nats_bus.stood(loop.time()) or len(ages) < 2:
        await asyncio.sleep(0.01)
    publish(nats_server, "stood")
    await nats_bus.flush()
    before, during, after = ages
    assert before == after == 0.0
    assert during >= BLOCKED


async def test_a_new_connection_brings_nothing_old(
    nats_server: EmbeddedServer, nats_bus: NatsBus
) -> None:
    """The loop stood still, but with another one."""
    loop = asyncio.get_running_loop()
    ups: list[bool] = []
    nats_bus.watch(ups.append)
    await nats_bus.client.force_reconnect()
    time.sleep(BLOCKED)
    while True not in ups:
        await asyncio.sleep(0.01)
    assert nats_bus.stood(loop.time()) == 0.0


async def test_what_came_before_a_new_connection_was_up_may_be_old(
    nats_server: EmbeddedServer, nats_bus: NatsBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop stood still after it had subscribed and before the server had answered."""
    loop = asyncio.get_running_loop()
    connection = nats_bus._connection
    ping = connection.ping
    ages: list[float] = []
    nats_bus.subscribe("stood", lambda _: ages.append(nats_bus.stood(loop.time())))
    await nats_bus.flush()

    async def ping_late() -> None:
        for _ in range(3):
            await asyncio.sleep(0)  # the subscriptions leave
        end = time.monotonic() + BLOCKED
        while time.monotonic() < end:
            publish(nats_server, "stood")
            time.sleep(0.1)
        await ping()

    monkeypatch.setattr(connection, "ping", ping_late)
    await connection.force_reconnect()
    while not ages or not nats_bus.is_connected:
        await asyncio.sleep(0.01)
    assert min(ages) >= BLOCKED
