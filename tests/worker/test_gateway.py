"""Gateways as supervised workers: real processes on one port."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import socket
from typing import TYPE_CHECKING

import aiohttp
import pytest

import kitmsg
from kitmsg import Service, endpoint
from tests.worker.commands import Command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from kitmsg.bus.embedded import EmbeddedServer
    from kitmsg.bus.nats import NatsBus


class Desk(Service):
    """Answers, at once or when it is let."""

    def __init__(self) -> None:
        self.entered = asyncio.Semaphore(0)
        self.release = asyncio.Event()

    @endpoint(http="GET /hello/{name}")
    async def hello(self, name: str) -> str:
        return f"Hello, {name}!"

    @endpoint(http="GET /wait", timeout=30)
    async def wait(self) -> str:
        self.entered.release()
        await self.release.wait()
        return "done"


class Fleet:
    """The gateway processes of one command, and who asks them."""

    def __init__(self, command: Command, desk: Desk, url: str, health: str) -> None:
        self.command = command
        self.desk = desk
        self.url = url
        self.health = health

    async def ask(self, path: str) -> tuple[int, str]:
        """Ask on a connection of its own."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(path) as response,
        ):
            return response.status, await response.text()

    async def hello(self) -> None:
        """Ask, and expect an answer."""
        answer = await self.ask(f"{self.url}/hello/ann")
        assert answer == (200, '"Hello, ann!"')

    async def says(self, text: str, count: int = 1) -> None:
        """Wait until the command has printed something."""
        await asyncio.to_thread(self.command.says, text, count)


def free_port() -> int:
    """Return a port that nobody has."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
async def fleet(
    nats_server: EmbeddedServer, nats_bus: NatsBus, tmp_path: Path
) -> AsyncIterator[Fleet]:
    """Two gateway processes, and a service on their bus."""
    health = str(free_port())
    words = ["-m", "kitmsg.cli", "gateway", "http", "--port", "0", "--workers", "2"]
    words += ["--health", health]
    desk = Desk()
    async with kitmsg.connect(bus=nats_bus) as kit:
        await kit.serve(desk)
        with Command(words, tmp_path, nats_url=nats_server.url) as command:
            await asyncio.to_thread(command.says, "ready at", 2)
            found = re.search(r"ready at (http://\S+)", command.output)
            assert found
            yield Fleet(command, desk, found[1], f"http://127.0.0.1:{health}")
            desk.release.set()


async def test_they_share_a_port_and_are_counted_apart(fleet: Fleet) -> None:
    """The parent's page has all of them, each with its number."""
    await asyncio.gather(*(fleet.hello() for _ in range(40)))
    _, page = await fleet.ask(f"{fleet.health}/metrics")
    counts = {
        int(worker): float(count)
        for worker, count in re.findall(
            r'^kitmsg_gateway_requests_total\{worker="(\d)",gateway="http",'
            r'service="desk",endpoint="desk.hello",code="ok"\} (\S+)$',
            page,
            re.MULTILINE,
        )
    }
    assert sum(counts.values()) == 40
    assert set(counts) <= {1, 2}
    assert page.count("# TYPE kitmsg_gateway_duration_seconds ") == 1
    _, own = await fleet.ask(f"{fleet.url}/metrics")
    assert re.search(r'kitmsg_gateway_endpoints\{process="\d+",gateway="http"\} ', own)
    assert (await fleet.ask(f"{fleet.health}/readyz"))[0] == 200


async def test_replacing_them_costs_no_request(fleet: Fleet) -> None:
    """SIGHUP: the sockets stay open in the parent, so no connection is turned away."""
    over, asked = asyncio.Event(), 0

    async def go_on() -> None:
        nonlocal asked
        while not over.is_set():
            await fleet.hello()
            asked += 1

    async with asyncio.timeout(30):
        tasks = [asyncio.create_task(go_on()) for _ in range(4)]
        fleet.command.send(signal.SIGHUP)
        await fleet.says("all workers are replaced")
        over.set()
        await asyncio.gather(*tasks)
    assert asked > 10


async def test_one_that_dies_is_replaced(fleet: Fleet) -> None:
    """Meanwhile the other one answers."""
    victim = fleet.command.workers()[0]
    victim.kill()
    await fleet.says("was killed by SIGKILL")
    await asyncio.gather(*(fleet.hello() for _ in range(10)))
    await fleet.says("ready at", 3)
    await asyncio.gather(*(fleet.hello() for _ in range(10)))


async def test_stop_finishes_what_is_in_flight_in_all_of_them(fleet: Fleet) -> None:
    """SIGTERM: nothing new is let in, what was begun is answered, and it ends with 0."""
    url = f"{fleet.url}/wait"
    waiting = [asyncio.create_task(fleet.ask(url)) for _ in range(12)]
    for _ in waiting:
        await fleet.desk.entered.acquire()
    fleet.command.send(signal.SIGTERM)
    await fleet.says("draining")
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(*_address(fleet.url))
                writer.close()
                await asyncio.sleep(0.02)
                continue
            break
    fleet.desk.release.set()
    assert await asyncio.gather(*waiting) == [(200, '"done"')] * 12
    assert await asyncio.to_thread(fleet.command.ends) == 0
    await asyncio.to_thread(fleet.command.leaves_nothing)


def _address(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").partition(":")
    return host, int(port)
