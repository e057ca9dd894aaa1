"""Faults that are put into kitmsg's own code, in the workers, and are caught.

Each scene runs twice side by side: with kitmsg as it is, which keeps every promise, and with
the fault, which breaks the one that is named.

| fault | scene that catches it | promise that is broken | seconds |
|---|---|---|---|
| ack before the effect | workers are killed at their work | lost | 7 |
| no message id on a retry | acknowledgements by the stream are lost | stored twice | 9 |
| no in-progress | a handler works longer than the store waits | redelivered | 18 |
| dead letter after the ack | the stream of dead letters is full for a while | lost | 6 |

The seconds are those of both, on two busy cores, with the start of their servers and workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

import kitmsg
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.events.dead import dead_stream
from tests.events.fire.account import Account, died, read_journal, settled, stored
from tests.events.fire.fleet import (
    ACK_WAIT,
    LossyProxy,
    end,
    fleet,
    make_streams,
    said,
)
from tests.events.fire.ledger import Happened, Poisoned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from kitmsg import Kit
    from tests.worker.commands import Command

    Scene = Callable[[Path, str], Awaitable[dict[str, list[str]]]]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SETTLED = 120.0


@dataclass
class Stage:
    """A server, a network to it, one worker, and what was given to it."""

    folder: Path
    kit: Kit
    lossy: LossyProxy
    command: Command
    events: range = range(0)
    poison: range = range(0)
    is_quiet: bool = False

    async def report(self) -> dict[str, list[str]]:
        """Return the promises that were broken, once everything is done."""
        await settled(self.kit, SETTLED)
        account = Account(
            events=self.events,
            tells=(),
            journal=read_journal(self.folder / "journal"),
            stored=await stored(self.kit, "happened") | await stored(self.kit, "noted"),
            effects={"on_stream": await stored(self.kit, "noted")},
            poison=self.poison,
            dead=await died(self.kit),
            is_quiet=self.is_quiet,
        )
        await asyncio.to_thread(end, [self.command])
        return account.broken()


@contextlib.asynccontextmanager
async def stage(
    folder: Path, fault: str, ack_wait: float = ACK_WAIT
) -> AsyncIterator[Stage]:
    folder /= fault.replace(" ", "-") or "right"
    folder.mkdir()
    environ = {"FIRE_FAULT": fault, "FIRE_ACK_WAIT": str(ack_wait)}
    async with AsyncExitStack() as stack:
        server = stack.enter_context(EmbeddedServer())
        port = urlsplit(server.url).port or 0
        proxy = LossyProxy(port, random.Random(1))
        lossy = await stack.enter_async_context(proxy)
        kit = await stack.enter_async_context(kitmsg.connect(server.url))
        await make_streams(kit, ack_wait)
        [command] = await asyncio.to_thread(
            stack.enter_context, fleet(folder, [lossy.url], environ, workers=1)
        )
        yield Stage(folder, kit, lossy, command)


async def killed_at_work(folder: Path, fault: str) -> dict[str, list[str]]:
    async with stage(folder, fault) as it:
        it.events = range(20)
        await it.kit.publish_many([Happened(n, 0.5) for n in it.events])
        await journal_of(it, "plain", 16)
        for worker in it.command.workers():
            worker.kill()
        return await it.report()


async def acknowledgements_are_lost(folder: Path, fault: str) -> dict[str, list[str]]:
    async with stage(folder, fault) as it:
        it.events = range(40)
        it.lossy.loses = 0.3
        await it.kit.publish_many([Happened(n, 0.01) for n in it.events])
        async with asyncio.timeout(SETTLED):
            while it.lossy.lost < 3:
                await asyncio.sleep(0.05)
        it.lossy.loses = 0.0
        return await it.report()


async def works_longer_than_the_store_waits(
    folder: Path, fault: str
) -> dict[str, list[str]]:
    # A worker that gets no processor for two thirds of this would be taken for dead.
    async with stage(folder, fault, ack_wait=6.0) as it:
        it.events, it.is_quiet = range(3), True
        await it.kit.publish_many([Happened(n, 7.0) for n in it.events])
        return await it.report()


async def dead_letters_find_no_room(folder: Path, fault: str) -> dict[str, list[str]]:
    async with stage(folder, fault) as it:
        it.poison = range(5)
        await it.kit.jetstream.publish("dead.somebody.else", b"")
        full = replace(dead_stream(), max_messages=1, discard="new")
        await it.kit.jetstream.update_stream(full)
        await it.kit.publish_many([Poisoned(n) for n in it.poison])
        await asyncio.to_thread(said, it.command, "no dead letter could be stored", 5)
        await it.kit.jetstream.update_stream(dead_stream())
        return await it.report()


async def journal_of(it: Stage, what: str, count: int) -> None:
    """Return when so many attempts of a kind have begun."""
    journal = it.folder / "journal"
    async with asyncio.timeout(SETTLED):
        while not journal.exists() or journal.read_text().count(f"{what} ") < count:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("fault", "scene", "promise"),
    [
        ("ack before the effect", killed_at_work, "lost"),
        ("no message id on a retry", acknowledgements_are_lost, "stored twice"),
        (
            "no in-progress",
            works_longer_than_the_store_waits,
            "redelivered while it was worked on",
        ),
        ("dead letter after the ack", dead_letters_find_no_room, "lost"),
    ],
)
async def test_a_fault_is_caught_by_the_promise_that_it_breaks(
    fault: str, scene: Scene, promise: str, tmp_path: Path
) -> None:
    began = time.monotonic()
    right, wrong = await asyncio.gather(scene(tmp_path, ""), scene(tmp_path, fault))
    print(f"{fault}: {len(wrong.get(promise, ()))} {promise},", end=" ")
    print(f"{time.monotonic() - began:.1f} s")
    assert right == {}
    assert promise in wrong
