"""A worker that comes to a long backlog: its memory, its start, and what it gives back.

``KITMSG_LONG=1`` takes a backlog as long as the promise says, and asserts its times too.
"""

from __future__ import annotations

import asyncio
import re
import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

import kitmsg
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.events.declared import apply, plan
from kitmsg.service.stored import declared_by
from tests.events.fire.books import Books, Entered
from tests.events.fire.fleet import PATIENCE, ROOT, is_long, serving
from tests.worker.commands import Command

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kitmsg import Kit
    from kitmsg.jetstream import Consumer

EVENTS: Final = 1_000_000 if is_long() else 20_000
PART: Final = 20_000
MEMORY: Final = 120e6
DRAIN: Final = 25.0 if is_long() else 1.0  # seconds
HELD: Final = 16 + 512  # attempts at once, and deliveries that are pulled ahead
# Far less than is left of the time for which the store waits for a word.
AT_ONCE: Final = 1.0 if is_long() else 15.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800 if is_long() else 300)]


class Shop:
    """Workers of one server's books.

    Args:
        folder: For their files.
        url: The server's.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.begun = folder / "begun"
        self.work_for(0)

    def work_for(self, seconds: float) -> None:
        """Have each event that is begun from now on take so long."""
        (self.folder / "seconds").write_text(f"{seconds}")

    def worker(self) -> Command:
        environ = {
            "PYTHONPATH": str(ROOT),
            "FIRE_SECONDS": str(self.folder / "seconds"),
            "FIRE_BEGUN": str(self.begun),
            "FIRE_DRAIN": str(DRAIN),
        }
        args = ["-m", "kitmsg.cli", "run", "tests.events.fire.books:Books"]
        return Command(args, self.folder, nats_url=self.url, environ=environ)

    async def has_begun(self, count: int) -> bool:
        """Tell whether so many events were begun."""
        await asyncio.sleep(0.1)
        return self.begun.exists() and self.begun.read_bytes().count(b"\n") >= count


@dataclass
class Findings:
    """Seconds and bytes that were measured."""

    memory: int
    started: float
    drained: float
    back: float
    held: int
    code: int


async def test_a_worker_is_small_and_gives_back_at_once_what_it_held_of_a_backlog(
    tmp_path: Path,
) -> None:
    with EmbeddedServer() as server:
        async with kitmsg.connect(server.url) as kit:
            consumer = await backlog(kit)
            found = await run(Shop(tmp_path, server.url), consumer)
    print(
        f"{EVENTS:,} events: {found.memory / 1e6:.0f} MB, serving in {found.started:.2f} s,"
        f" drained in {found.drained:.2f} s, what was held is done {found.back:.2f} s later"
    )
    assert found.memory < MEMORY
    assert found.held <= HELD
    assert found.code == 0
    assert found.back < AT_ONCE
    if is_long():
        assert found.started < 2
        assert found.drained < DRAIN + 1


async def run(shop: Shop, consumer: Consumer) -> Findings:
    """Have a worker do half of it, hang, and end; another one does the rest."""
    began = time.monotonic()
    with shop.worker() as first, ExitStack() as stack:
        await asyncio.to_thread(serving, first)
        started = time.monotonic() - began
        await until(lambda: shop.has_begun(EVENTS // 2))
        [worker] = first.workers()
        memory = peak(worker.pid)
        shop.work_for(3600)
        await until(lambda: is_stuck(consumer))
        held = await consumer.info()
        shop.work_for(0)
        second = stack.enter_context(shop.worker())
        await asyncio.to_thread(serving, second)
        began = time.monotonic()
        first.send(signal.SIGTERM)
        code = await asyncio.to_thread(first.process.wait, DRAIN + PATIENCE)
        drained = time.monotonic() - began
        await until(lambda: is_acked(consumer, held.delivered))
        back = time.monotonic() - began - drained
        second.send(signal.SIGTERM)
        await asyncio.to_thread(second.process.wait, PATIENCE)
    return Findings(memory, started, drained, back, held.ack_pending, code)


async def backlog(kit: Kit) -> Consumer:
    """Store all events, and return the consumer that has yet to get them."""
    await apply(kit.jetstream, await plan(kit.jetstream, declared_by(Books)))
    text = "x" * 100
    for start in range(0, EVENTS, PART):
        part = [Entered(n, text) for n in range(start, start + PART)]
        await kit.publish_many(part, timeout=60)
    return await (await kit.jetstream.stream("books")).consumer("books-enter")


async def is_stuck(consumer: Consumer) -> bool:
    """Tell whether the worker holds as much as it may, and gets no further."""
    before = await consumer.info()
    await asyncio.sleep(0.5)
    after = await consumer.info()
    return before.ack_floor == after.ack_floor and before.delivered == after.delivered


async def is_acked(consumer: Consumer, sequence: int) -> bool:
    return (await consumer.info()).ack_floor >= sequence


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(600 if is_long() else 120):
        while not await condition():
            await asyncio.sleep(0.02)


def peak(pid: int) -> int:
    """Return the most bytes of memory that a process ever had."""
    status = Path(f"/proc/{pid}/status").read_text()
    [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(kilobytes) << 10
