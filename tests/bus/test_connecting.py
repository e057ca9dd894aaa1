"""The first connection of a NatsBus: servers that are not there, silent, or moved."""

from __future__ import annotations

import asyncio
import socket

import pytest

from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.bus.nats import NatsBus
from kitmsg.errors import (
    Unavailable,
)
from tests.bus.links import Changes, address, echo
from tests.ports import free_port


async def test_says_that_no_server_is_there() -> None:
    """The message names the address, without its password, and what to do."""
    port = free_port()
    with pytest.raises(Unavailable) as info:
        await NatsBus.connect(f"nats://ann:s3cret@127.0.0.1:{port}")
    assert str(info.value) == (
        f"no NATS server at nats://127.0.0.1:{port}: connection refused; start one with"
        " `kitmsg dev` or `docker compose up nats`, or set NATS_URL"
    )


async def test_says_that_a_host_does_not_exist() -> None:
    """A name that means nothing is said."""
    with pytest.raises(Unavailable, match=r"nats://no\.invalid:4222: host name not"):
        await NatsBus.connect("no.invalid")


async def test_gives_up_on_a_server_that_says_nothing() -> None:
    """Something that is not NATS ends the wait in time."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        mute = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(Unavailable, match="no answer in time"):
            await NatsBus.connect(mute, connect_timeout=0.1)


async def test_passes_over_dead_servers(server: EmbeddedServer) -> None:
    """One of several addresses that answers is enough; order does not matter."""
    dead = f"127.0.0.1:{free_port()}"
    for servers in ([dead, address(server)], f"{address(server)} , nats://{dead}"):
        for _ in range(3):
            bus = await NatsBus.connect(servers)
            await bus.flush()
            await bus.close()


async def test_moves_to_another_server(server: EmbeddedServer) -> None:
    """When its server dies for good, the bus goes to another address it was given."""
    other = EmbeddedServer(jetstream=False)
    with other:
        bus = await NatsBus.connect([other.url, server.url])
        bus.subscribe("echo", echo(bus), "q")
        url = bus.client.connected_url
        assert url is not None
        changes = Changes(bus)
        (other if url.netloc == address(other) else server).kill()
        await changes.until(False, True)
        assert (await bus.request("echo", b"x", 5)).data == b"x"
        await bus.close()
        if url.netloc != address(other):
            server.restart()


async def test_can_wait_for_the_first_connection(
    server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """With ``wait=True`` a server may come later than its clients."""
    server.kill()
    task = asyncio.create_task(NatsBus.connect(server.url, wait=True))
    while "waiting for it" not in caplog.text:
        await asyncio.sleep(0.01)
    server.restart()
    bus = await task
    await bus.flush()
    await bus.close()
