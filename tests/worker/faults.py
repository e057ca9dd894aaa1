"""Faults that befall workers: of some commands, one is killed, or stopped for a while."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from tests.worker.commands import Command

__all__ = ["WorkerFaults"]


class WorkerFaults:
    """Breaks workers, one of them at a time; several such times may overlap.

    Args:
        commands: Those whose workers it breaks.
        chance: Random numbers.
        longest: Longest stop of a worker, in seconds.
    """

    def __init__(
        self, commands: Sequence[Command], chance: random.Random, longest: float
    ) -> None:
        self._commands = commands
        self._chance = chance
        self._longest = longest

    def _any(self) -> psutil.Process | None:
        with contextlib.suppress(psutil.Error):
            workers = [w for command in self._commands for w in command.workers()]
            return self._chance.choice(workers) if workers else None
        return None

    async def kill_worker(self) -> None:
        """SIGKILL."""
        with contextlib.suppress(psutil.Error):
            if worker := self._any():
                worker.kill()

    async def stop_worker(self) -> None:
        """SIGSTOP, for a while."""
        with contextlib.suppress(psutil.Error):
            if worker := self._any():
                worker.send_signal(signal.SIGSTOP)
                await asyncio.sleep(self._chance.uniform(0.1, self._longest))
                worker.send_signal(signal.SIGCONT)
