"""A worker that is frozen or blocked loses its connection, and so its share of the calls."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import pytest

import kitmsg
from kitmsg.errors import DeadlineExceeded, KitError, NoResponders

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.bus.embedded import EmbeddedServer
    from kitmsg.service import Kit
    from tests.worker.commands import Command

READY = "is serving as"
CUT = "its connection is cut"
FOR_LONG = ("--watchdog", "0")


async def pids(kit: Kit, count: int = 64) -> set[int]:
    """Return who answers so many calls, none of which fails."""
    return {await kit.call("desk.pid", timeout=10) for _ in range(count)}


async def back(kit: Kit, pid: int) -> None:
    """Wait until a worker answers again."""
    async with asyncio.timeout(20):
        while pid not in await pids(kit, 8):
            await asyncio.sleep(0.05)


async def test_a_stopped_worker_gets_no_more_calls(
    start: Callable[..., Command], nats_server: EmbeddedServer
) -> None:
    """The other one has them all; when it goes on it has its share again."""
    with start("office:Desk", "--workers", "2", *FOR_LONG) as command:
        command.says(READY, 2)
        frozen = command.workers()[0]
        async with kitmsg.connect(nats_server.url) as kit:
            await back(kit, frozen.pid)
            frozen.send_signal(signal.SIGSTOP)
            command.says(CUT)
            assert frozen.pid not in await pids(kit)
            frozen.send_signal(signal.SIGCONT)
            await back(kit, frozen.pid)
            frozen.send_signal(signal.SIGSTOP)  # its new connection too is in our hands
            command.says(CUT, 2)
            assert frozen.pid not in await pids(kit)
            frozen.send_signal(signal.SIGCONT)
            await back(kit, frozen.pid)


async def test_a_blocked_event_loop_gets_no_more_calls(
    start: Callable[..., Command], nats_server: EmbeddedServer
) -> None:
    """Blocking code where it does not belong costs the calls that it holds, not half of all."""
    with start("office:Desk", "--workers", "2", *FOR_LONG) as command:
        command.says(READY, 2)
        async with kitmsg.connect(nats_server.url) as kit:
            with pytest.raises(DeadlineExceeded):
                await kit.call("desk.stand_still", timeout=0.1)
            command.says(CUT)
            assert len(await pids(kit)) == 1


async def test_a_stopped_worker_that_is_alone_is_cut_too(
    start: Callable[..., Command], nats_server: EmbeddedServer
) -> None:
    """Later, since there may be nobody else: then callers hear at once that nobody is there."""
    with start("office:Desk", *FOR_LONG) as command:
        command.says(READY)
        (frozen,) = command.workers()
        async with kitmsg.connect(nats_server.url) as kit:
            frozen.send_signal(signal.SIGSTOP)
            command.says(CUT)
            with pytest.raises(NoResponders):
                await kit.call("desk.pid")
            frozen.send_signal(signal.SIGCONT)
            command.says(READY)


async def test_a_stopped_worker_costs_little(
    start: Callable[..., Command], nats_server: EmbeddedServer
) -> None:
    """At 500 calls a second, at most those of 1.5 s are lost."""
    with start("office:Desk", "--workers", "2", *FOR_LONG) as command:
        command.says(READY, 2)
        async with kitmsg.connect(nats_server.url) as kit:

            async def lost() -> bool:
                try:
                    await kit.call("desk.pid", timeout=2.0)
                except KitError:
                    return True
                return False

            calls = []
            for number in range(1500):
                if number == 250:
                    command.workers()[0].send_signal(signal.SIGSTOP)
                calls.append(asyncio.create_task(lost()))
                await asyncio.sleep(0.002)
            count = sum(await asyncio.gather(*calls))
            print(f"{count} of {len(calls)} calls were lost")
            assert 0 < count <= 750


async def test_a_killed_worker_leaves_no_connection(
    start: Callable[..., Command], nats_server: EmbeddedServer
) -> None:
    """What the parent holds of a connection ends with the worker: nobody sends there."""
    with start("office:Desk", "--workers", "2") as command:
        command.says(READY, 2)
        async with kitmsg.connect(nats_server.url) as kit:
            first = command.workers()[0]
            first.kill()
            command.says("was killed by SIGKILL")
            assert first.pid not in await pids(kit)
