"""Promises of calls under faults that overlap: workers, the server and the network.

``KITMSG_LONG=1`` makes as many calls as the promise says.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

import kitmsg
from benchmarks.relay import Relay
from kitmsg.bus.embedded import EmbeddedServer
from tests.soak.faults import LEDGER, Callers, Faults, Journal
from tests.worker.commands import Command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

IS_LONG = bool(os.environ.get("KITMSG_LONG"))
CALLS = 30_000 if IS_LONG else 4_000  # of each seed
PER_SECOND = 500 if IS_LONG else 250
FIRST_SEED = int(os.environ.get("KITMSG_SEED", "1"))
SEEDS = range(FIRST_SEED, FIRST_SEED + (10 if IS_LONG else 1))

ENDS = {"ok", "deadline_exceeded", "unavailable", "resource_exhausted"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 if IS_LONG else 120)]


@asynccontextmanager
async def scene(folder: Path, seed: int) -> AsyncIterator[Scene]:
    """Start a server, two workers beside it, and one worker and one caller far away."""
    (folder / "ledger.py").write_text(LEDGER)
    environ = {"JOURNAL": str(folder / "journal")}
    args = ["-m", "kitmsg.cli", "run", "ledger:Ledger", "--workers"]
    async with AsyncExitStack() as stack:
        server = stack.enter_context(EmbeddedServer(jetstream=False))
        network = stack.enter_context(Relay(urlsplit(server.url).port or 0))
        places = [(server.url, 2), (network.url, 1)]
        commands = [
            stack.enter_context(
                Command([*args, str(n)], folder, nats_url=url, environ=environ)
            )
            for url, n in places
        ]
        for command, (_, n) in zip(commands, places, strict=True):
            command.says("is serving as", n)
        kits = [
            await stack.enter_async_context(kitmsg.connect(url)) for url, _ in places
        ]
        faults = Faults(server, network, commands, random.Random(seed))
        yield Scene(Callers(kits, random.Random(seed)), faults, commands)


@dataclass
class Scene:
    """Callers, what befalls them, and the commands that serve them."""

    callers: Callers
    faults: Faults
    commands: list[Command]

    async def run(self) -> str:
        """Make all calls under faults, and end the workers; returns what they printed."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.callers.call(CALLS, PER_SECOND))
            group.create_task(self.faults.run(CALLS / PER_SECOND))
        for command in self.commands:
            command.send(signal.SIGTERM)
            await asyncio.to_thread(command.ends)
        return "".join(command.output for command in self.commands)


@pytest.mark.parametrize("seed", SEEDS)
async def test_calls_keep_their_promises_under_faults(
    seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """None hangs, runs twice, runs though it was said not to, or ends after its deadline."""
    async with scene(tmp_path, seed) as stage:
        output = await stage.run() + caplog.text
    callers, journal = stage.callers, Journal.read(tmp_path / "journal")
    twice = [number for number, count in journal.begun.items() if count > 1]
    unsent_yet_run = callers.unsent & journal.begun.keys()
    print(
        f"seed {seed}: {callers.count:,} calls, {dict(callers.ends)}\n"
        f"under {dict(stage.faults.done)}\n"
        f"hung {len(callers.hung)}, twice {len(twice)},"
        f" unsent yet run {len(unsent_yet_run)} of {len(callers.unsent):,},"
        f" ended late {len(callers.late)}\n"
        f"handlers begun late: {len(journal.late)} of {journal.begun.total():,},"
        f" at most by {max(journal.late, default=0.0):.3f} s\n"
        f"tracebacks: {output.count('Traceback')}"
    )
    if journal.late or callers.late:
        print(*stage.faults.log, *journal.where, *callers.late, sep="\n")
    assert callers.hung == []
    assert twice == []
    assert unsent_yet_run == set()
    assert callers.late == []
    assert set(callers.ends) <= ENDS
    assert callers.ends["ok"] > CALLS / 10
    assert "Traceback" not in output
    if IS_LONG:
        assert len(journal.late) < 0.0005 * CALLS
