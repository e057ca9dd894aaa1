"""A worker that was stopped does no work that nobody waits for any more."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest

import kitmsg
from kitmsg.errors import DeadlineExceeded
from tests.worker.commands import Command

if TYPE_CHECKING:
    from pathlib import Path

    from kitmsg.bus.embedded import EmbeddedServer

CODE = """
import asyncio, kitmsg

class Slow(kitmsg.Service):
    begun = 0

    @kitmsg.endpoint
    async def work(self, late: bool) -> int:
        Slow.begun += late
        await asyncio.sleep(0.005)
        return Slow.begun

if __name__ == "__main__":
    kitmsg.run(Slow())
"""


class Slow(kitmsg.Service):
    """What the process serves, for its client."""

    @kitmsg.endpoint
    async def work(self, late: bool) -> int:
        raise NotImplementedError


async def test_a_traced_worker_ends_without_a_word(
    nats_server: EmbeddedServer, tmp_path: Path
) -> None:
    """The thread that exports spans is left behind, as Python leaves it."""
    (tmp_path / "slow.py").write_text(CODE)
    words = ["-m", "kitmsg.cli", "run", "slow:Slow", "--traces", "console"]
    with Command(words, tmp_path, nats_url=nats_server.url) as command:
        command.says("is serving as")
        async with kitmsg.connect(nats_server.url) as kit:
            await kit.client(Slow).work(late=False)
        command.send(signal.SIGTERM)
        assert command.ends() == 0
    assert '"name": "slow.work"' in command.output
    assert " error " not in command.output


@pytest.mark.parametrize("pause", [1.5])
async def test_a_pause_leaves_no_work_behind(
    nats_server: EmbeddedServer, tmp_path: Path, pause: float
) -> None:
    """200 calls of 0.3 s pile up while it is stopped; then none of them begins."""
    (tmp_path / "slow.py").write_text(CODE)
    words = [str(tmp_path / "slow.py")]
    with Command(words, tmp_path, nats_url=nats_server.url) as command:
        async with kitmsg.connect(nats_server.url) as kit:
            client = kit.client(Slow, timeout=0.3)
            await _there(client)
            for _ in range(20):
                await client.work(late=False)
            os.kill(command.process.pid, signal.SIGSTOP)
            calls = [asyncio.create_task(client.work(late=True)) for _ in range(200)]
            ends = await asyncio.gather(*calls, return_exceptions=True)
            await asyncio.sleep(pause - 0.3)
            os.kill(command.process.pid, signal.SIGCONT)
            assert {type(end) for end in ends} == {DeadlineExceeded}
            assert await kit.client(Slow, timeout=5).work(late=False) <= 2


async def _there(client: Slow) -> None:
    while True:
        try:
            await client.work(late=False)
        except kitmsg.KitError:
            await asyncio.sleep(0.05)
        else:
            return
