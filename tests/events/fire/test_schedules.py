"""A schedule of two instances whose server goes away for a while, and comes back."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

import kitmsg
from kitmsg import Service, current, every
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.events.ticks import Tick
from tests.events.fire.fleet import is_long

SECONDS = 60 if is_long() else 3  # on a quiet bus, before the outage and after it
AWAY = 30.0 if is_long() else 3.2

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 if is_long() else 180)]


class Clock(Service):
    """Notes each time that was due, and when it was there."""

    def __init__(self, runs: list[tuple[float, float]]) -> None:
        self.runs = runs

    @every(1)
    async def strike(self) -> None:
        message = current().message
        assert message is not None
        due = msgspec.json.decode(message.data, type=Tick).due
        self.runs.append((due, time.time()))


async def test_a_schedule_runs_once_for_all_that_it_missed_and_never_early() -> None:
    runs: list[tuple[float, float]] = []
    with EmbeddedServer() as server:
        async with (
            kitmsg.connect(server.url, makes_streams=True) as one,
            kitmsg.connect(server.url, makes_streams=True) as other,
        ):
            await one.serve(Clock(runs))
            await other.serve(Clock(runs))
            await until(runs, SECONDS)
            quiet = max(at - due for due, at in runs)
            # The server has written down that the last run is done, well before the next;
            # else that one would be given out again when its time of 30 s is over.
            await asyncio.sleep(0.6)
            server.kill()
            down = time.time()
            await asyncio.sleep(AWAY)
            up = time.time()
            await asyncio.to_thread(server.start)
            await until(runs, len(runs) + SECONDS)
    missed = [due for due, _ in runs if down < due < up]
    print(f"at most {quiet:.3f} s late on a quiet bus; {len(missed)} run for {AWAY} s")
    assert all(at >= due for due, at in runs)
    assert len({due for due, _ in runs}) == len(runs)
    assert len(missed) <= 1
    if is_long():
        assert quiet < 1


async def until(runs: list[tuple[float, float]], count: int) -> None:
    async with asyncio.timeout(count * 2 + 60):
        while len(runs) < count:
            await asyncio.sleep(0.05)
