"""Streams between real processes: memory that stays flat, and what a death looks like."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import psutil
import pytest

import kitmsg
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.errors import Disconnected, Unavailable
from kitmsg.transport.opening import open_stream
from tests.worker.commands import Command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kitmsg.transport.stream import Stream

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MEGABYTES = 1000 if os.environ.get("KITMSG_LONG") else 60
MOST_RESIDENT = 120 << 20

FEED = """
import asyncio
from collections.abc import AsyncIterator
from kitmsg import Service, endpoint

class Feed(Service):
    @endpoint
    async def parts(self, count: int, size: int) -> AsyncIterator[bytes]:
        part = bytes(size)
        for _ in range(count):
            yield part

    @endpoint
    async def ticks(self) -> AsyncIterator[int]:
        n = 0
        while True:
            yield n
            n += 1
            await asyncio.sleep(0.01)
"""


@pytest.fixture
def worker(tmp_path: Path, nats_server: EmbeddedServer) -> Iterator[Command]:
    """A worker process that serves `Feed`."""
    (tmp_path / "feed.py").write_text(FEED)
    args = ["-m", "kitmsg.cli", "run", "feed:Feed"]
    with Command(args, tmp_path, nats_url=nats_server.url) as command:
        command.says("feed 0.1.0 is serving")
        yield command


def child_of(command: Command) -> psutil.Process:
    """Return the process that runs the service."""
    (child,) = psutil.Process(command.process.pid).children()
    return child


@pytest.mark.parametrize("size", [1_000, 200_000])
async def test_memory_stays_flat_behind_a_slow_reader(
    worker: Command, nats_server: EmbeddedServer, size: int
) -> None:
    """Far more goes through than either side may keep, read in fits and starts."""
    count = MEGABYTES * 1_000_000 // size
    child = child_of(worker)
    here = psutil.Process()
    before = here.memory_info().rss
    most = most_here = 0
    async with kitmsg.connect(nats_server.url) as kit:
        seen = 0
        async for part in kit.stream("feed.parts", count=count, size=size):
            assert len(part) == size
            seen += 1
            if seen % max(1, 2_000_000 // size) == 0:
                await asyncio.sleep(0.01)
                most = max(most, child.memory_info().rss)
                most_here = max(most_here, here.memory_info().rss - before)
    assert seen == count
    assert most < MOST_RESIDENT
    assert most_here < MOST_RESIDENT


async def test_a_killed_worker_ends_its_streams(
    worker: Command, nats_server: EmbeddedServer
) -> None:
    """`Unavailable` within two heartbeats, never a hang and never a good end."""
    async with kitmsg.connect(nats_server.url) as kit:
        stream = await open_stream(kit.bus, "feed.ticks", b"{}", heartbeat=0.2)
        await anext(stream)
        child_of(worker).send_signal(signal.SIGKILL)
        with pytest.raises(Unavailable):
            await _to_the_end(stream)


async def test_a_stopped_worker_is_lost_and_cannot_go_on(
    worker: Command, nats_server: EmbeddedServer
) -> None:
    """A process that stands still is as good as dead; when it wakes, it is told."""
    async with kitmsg.connect(nats_server.url) as kit:
        stream = await open_stream(kit.bus, "feed.ticks", b"{}", heartbeat=0.2)
        await anext(stream)
        child = child_of(worker)
        child.suspend()
        try:
            with pytest.raises(Unavailable, match="nothing was heard"):
                await _to_the_end(stream)
        finally:
            child.resume()
        while (await _running(kit)) != 0:
            await asyncio.sleep(0.05)


async def test_a_killed_bus_ends_streams_on_both_sides(tmp_path: Path) -> None:
    """The reader has `Disconnected` at once; the worker's generator is closed."""
    (tmp_path / "feed.py").write_text(FEED)
    args = ["-m", "kitmsg.cli", "run", "feed:Feed"]
    with (
        EmbeddedServer() as server,
        Command(args, tmp_path, nats_url=server.url) as command,
    ):
        command.says("feed 0.1.0 is serving")
        async with kitmsg.connect(server.url) as kit:
            stream = await open_stream(kit.bus, "feed.ticks", b"{}")
            await anext(stream)
            back = asyncio.Event()
            kit.bus.watch(lambda up: back.set() if up else None)
            server.kill()
            with pytest.raises(Disconnected):
                await _to_the_end(stream)
            server.start()
            await asyncio.wait_for(back.wait(), 20)
            while (await _running(kit)) != 0:
                await asyncio.sleep(0.05)


async def _to_the_end(stream: Stream) -> None:
    async for _ in stream:
        pass


async def _running(kit: kitmsg.Kit) -> int:
    """Return how many streams of ticks run; -1 while nobody answers."""
    import msgspec

    try:
        reply = await kit.bus.request("$SRV.STATS.feed", b"", 1.0)
    except kitmsg.errors.KitError:
        return -1
    (ticks,) = (
        endpoint
        for endpoint in msgspec.json.decode(reply.data)["endpoints"]
        if endpoint["name"] == "ticks"
    )
    running: int = ticks["data"]["running"]
    return running
