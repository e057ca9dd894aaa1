"""A mailbox under overload sheds by the clock, and lets the loop read and write."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING

from kitmsg.mailbox import Mailbox
from tests.mailbox.turns import Turn

if TYPE_CHECKING:
    import pytest


class Burning(Turn):
    """A turn that needs a part of a millisecond of the processor."""

    async def run(self) -> None:
        """Work."""
        end = time.thread_time() + 0.0005
        while time.thread_time() < end:
            pass
        self.is_done = True


def test_an_overloaded_mailbox_refuses_what_would_wait_long(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """When more comes than can be done few wait, and one line says so."""

    async def overload() -> tuple[int, int]:
        mailbox = Mailbox(concurrency=4, size=4096, sheds=True)
        refused = 0
        while not refused:
            for _ in range(100):  # more than the 10 of 5 ms
                refused += not mailbox.offer(Burning())
            await asyncio.sleep(0)
        while not mailbox.offer(Burning()):  # what was taken before is done
            await asyncio.sleep(0.01)
        longest = 0
        for _ in range(20):
            while mailbox.offer(Burning()):
                pass
            longest = max(longest, mailbox.waiting)
            await asyncio.sleep(0)
        await mailbox.drain(10.0)
        return refused, longest

    caplog.set_level("INFO", "kitmsg.mailbox")
    refused, longest = asyncio.run(overload())
    assert refused > 0
    assert longest <= 101  # 2,000 a second, at best
    assert sum("more turns come than" in text for text in caplog.messages) == 1


def test_long_runs_of_turns_let_the_loop_read_and_write() -> None:
    """However many workers there are: it turns at least once in 5 ms and one turn."""

    async def run() -> list[int]:
        loop = asyncio.get_running_loop()
        mailbox = Mailbox(concurrency=64)
        done: list[int] = []
        turns = [Burning() for _ in range(400)]
        for turn in turns:
            mailbox.offer(turn)

        def look() -> None:
            done.append(sum(turn.is_done for turn in turns))
            if done[-1] < len(turns):
                loop.call_soon(look)

        loop.call_soon(look)
        await mailbox.drain(10.0)
        look()
        return done

    done = asyncio.run(run())
    # Half a millisecond of the processor each is 10 in a run; one more ends it.
    assert max(b - a for a, b in itertools.pairwise(done)) <= 11


async def test_without_shedding_an_overload_changes_nothing() -> None:
    """The mailbox keeps its length."""
    mailbox = Mailbox(concurrency=1, size=8)
    for _ in range(9):
        assert mailbox.offer(Turn())
    assert not mailbox.offer(Turn())
    await mailbox.drain(1.0)
