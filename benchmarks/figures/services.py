"""Services that the figures ask."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

from kitmsg import Service, endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = [
    "EVENT",
    "JOURNAL",
    "Broadcast",
    "Burner",
    "Crowd",
    "Narrow",
    "Recorder",
    "Unshed",
]

EVENT = "x" * 16_384
"""An item of `Broadcast.flood`."""

JOURNAL = "KITMSG_BENCHMARK_JOURNAL"
"""Environment variable: the file that `Recorder` writes to."""


class Crowd(Service):
    """Answers nobody until everybody is there."""

    concurrency = 10_000
    mailbox = 10_000

    def __init__(self) -> None:
        self._here = 0
        self._complete = asyncio.Event()

    @endpoint
    async def gather(self, of: int) -> int:
        """Wait until `of` callers are here at once; returns how many that were."""
        self._here += 1
        if self._here >= of:
            self._complete.set()
        await self._complete.wait()
        return self._here


class Narrow(Service):
    """Can do little: four turns of 10 ms at once."""

    concurrency = 4
    mailbox = 16

    @endpoint
    async def work(self) -> None:
        """Take 10 ms."""
        await asyncio.sleep(0.01)


class Burner(Service):
    """Needs the event loop: two milliseconds of it."""

    @endpoint
    async def burn(self) -> None:
        """Hold it up."""
        time.sleep(0.002)  # noqa: ASYNC251  # as a calculation does


class Unshed(Burner):
    """The same, without load shedding."""

    off = ("shedding",)


class Recorder(Service):
    """Writes down what it begins, so that nothing it did can be denied."""

    def __init__(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._journal = os.open(os.environ[JOURNAL], flags, 0o600)

    @endpoint
    async def record(self, number: int) -> int:
        """Write `number` and this process's id to the journal; takes 20 ms."""
        os.write(self._journal, f"{number} {os.getpid()}\n".encode())
        await asyncio.sleep(0.02)
        return number

    @endpoint
    async def block(self, seconds: float) -> None:
        """Hold up the event loop, as code does that belongs into a thread."""
        time.sleep(seconds)  # noqa: ASYNC251  # the fault that is measured

    async def stop(self) -> None:
        """Close the journal."""
        os.close(self._journal)


class Broadcast(Service):
    """Streams to whoever listens."""

    @endpoint(http="GET /flood/{count}")
    async def flood(self, count: int) -> AsyncIterator[str]:
        """Give so many items, as fast as they are taken."""
        for _ in range(count):
            yield EVENT

    @endpoint(http="GET /silence")
    async def silence(self) -> AsyncIterator[str]:
        """Give nothing, for ever."""
        await asyncio.Event().wait()
        yield ""
