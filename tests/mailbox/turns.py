"""Turns that do what a test says."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kitmsg.errors import Code


class Turn:
    """A turn that does what the test says, and remembers how it ended."""

    reply = ""

    def __init__(
        self,
        work: Callable[[], Awaitable[None]] | None = None,
        *,
        deadline: float | None = None,
    ) -> None:
        self.deadline = deadline
        self.work = work
        self.ends: list[Code] = []
        self.is_done = False

    async def run(self) -> None:
        """Do the work."""
        if self.work is not None:
            await self.work()
        self.is_done = True

    def ended(self, code: Code) -> None:
        """Remember why it was cut short."""
        self.ends.append(code)


async def forever() -> None:
    """Wait for ever."""
    await asyncio.Event().wait()


async def swallow_once(gate: asyncio.Event) -> None:
    """Wait for `gate`, and take no offence at being cancelled."""
    with contextlib.suppress(asyncio.CancelledError):
        await gate.wait()


async def swallow() -> None:
    """Wait for ever, and take no offence at being cancelled."""
    with contextlib.suppress(asyncio.CancelledError):
        await forever()


async def settled() -> None:
    """Let everything that can run run."""
    await asyncio.sleep(0.001)
