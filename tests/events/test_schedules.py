"""Schedules: once in the fleet at each time, once after an outage, never two at once."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast
from zoneinfo import ZoneInfo

import pytest

from kitmsg import Kit, Service, cron, every
from kitmsg.events.schedule import Cron, Every

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    Elsewhere = Callable[[], AbstractAsyncContextManager[Kit]]

anyio = pytest.mark.anyio
in_memory = pytest.mark.parametrize("kind", ["memory"])


class Digest(Service):
    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.runs: list[float] = []
        self.running = 0
        self.takes = 0.0

    @every(hours=1)
    async def digest(self) -> None:
        self.running += 1
        assert self.running == 1
        self.runs.append(self.kit.jetstream.now())
        await asyncio.sleep(self.takes)
        self.running -= 1


@anyio
@in_memory
async def test_a_schedule_runs_once_in_the_fleet_at_each_time(
    kit: Kit, elsewhere: Elsewhere
) -> None:
    one, other = Digest(kit), Digest(kit)
    await kit.serve(one)
    async with elsewhere() as second:
        await second.serve(other)
        await asyncio.sleep(5 * 3600)
    runs = sorted([*one.runs, *other.runs])
    assert len(runs) == 5
    for run in runs:
        assert 0 <= run % 3600 <= 1  # never early


@anyio
@in_memory
async def test_a_schedule_runs_once_after_an_outage(kit: Kit) -> None:
    first = Digest(kit)
    host = await kit.serve(first)
    await asyncio.sleep(3600)
    assert len(first.runs) == 1
    await host.drain()
    kit.hosts.remove(host)
    await asyncio.sleep(7.5 * 3600)
    again = Digest(kit)
    await kit.serve(again)
    await asyncio.sleep(1)
    assert len(again.runs) == 1


@anyio
@in_memory
async def test_runs_do_not_overlap_and_those_that_pile_up_are_one(
    kit: Kit, elsewhere: Elsewhere
) -> None:
    one, other = Digest(kit), Digest(kit)
    one.takes = other.takes = 250.0
    await kit.serve(one)

    class Often(Service):
        runs: list[tuple[float, float]]

        def __init__(self) -> None:
            self.runs = []

        @every(60)
        async def work(self) -> None:
            begun = kit.jetstream.now()
            await asyncio.sleep(150)
            self.runs.append((begun, kit.jetstream.now()))

    often = Often()
    await kit.serve(often)
    async with elsewhere() as second:
        again = Often()
        await second.serve(again)
        await asyncio.sleep(3600)
        runs = sorted([*often.runs, *again.runs])
    for (_, ended), (begun, _) in itertools.pairwise(runs):
        assert begun >= ended
    assert 20 <= len(runs) <= 24


@anyio
@in_memory
async def test_a_run_that_fails_is_tried_again(kit: Kit) -> None:
    class Fails(Service):
        runs = 0

        @every(hours=1, retries=(5.0,))
        async def work(self) -> None:
            type(self).runs += 1
            raise RuntimeError("boom")

    await kit.serve(Fails)
    await asyncio.sleep(3600 + 60)
    assert Fails.runs == 2
    stream = await kit.jetstream.stream("dead")
    assert (await stream.info()).messages == 1


@anyio
@in_memory
async def test_a_cron_runs_at_its_time_in_its_zone(kit: Kit) -> None:
    class Nightly(Service):
        runs: list[datetime]

        def __init__(self) -> None:
            self.runs = []

        @cron("0 3 * * *", tz="Europe/Paris")
        async def work(self) -> None:
            now = kit.jetstream.now()
            self.runs.append(datetime.fromtimestamp(now, ZoneInfo("Europe/Paris")))

    nightly = Nightly()
    await kit.serve(nightly)
    await asyncio.sleep(7 * 86_400)
    assert len(nightly.runs) in (7, 8)
    assert {(run.hour, run.minute) for run in nightly.runs} == {(3, 0)}


@anyio
@pytest.mark.parametrize("kind", ["nats"])
async def test_a_schedule_runs_on_a_server(kit: Kit, elsewhere: Elsewhere) -> None:
    class Often(Service):
        runs: list[float]

        def __init__(self) -> None:
            self.runs = []

        @every(1)
        async def work(self) -> None:
            self.runs.append(kit.jetstream.now())

    one, other = Often(), Often()
    await kit.serve(one)
    async with elsewhere() as second:
        await second.serve(other)
        async with asyncio.timeout(20):
            while len(one.runs) + len(other.runs) < 3:
                await asyncio.sleep(0.05)
        runs = sorted([*one.runs, *other.runs])
    assert len({int(run) for run in runs}) == len(runs)


def test_times_of_a_period_are_its_multiples() -> None:
    times = Every(3600)
    assert times.last(7199.9) == 3600
    assert times.last(7200.0) == 7200
    assert times.following(7200.0) == 10_800


@pytest.mark.parametrize(
    ("expression", "after", "wanted"),
    [
        # 02:30 does not exist on 2026-03-29, and is there twice on 2026-10-25.
        ("30 2 * * *", "2026-03-28T12:00:00+01:00", "2026-03-29T03:00:00+02:00"),
        ("30 2 * * *", "2026-10-24T12:00:00+02:00", "2026-10-25T02:30:00+02:00"),
        ("30 2 * * *", "2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"),
        ("0 3 * * *", "2026-11-28T02:00:00+00:00", "2026-11-29T03:00:00+01:00"),
    ],
)
def test_a_cron_follows_changes_of_the_clock(
    expression: str, after: str, wanted: str
) -> None:
    times = Cron(expression, ZoneInfo("Europe/Paris"))
    found = times.following(datetime.fromisoformat(after).timestamp())
    assert datetime.fromtimestamp(found, UTC) == datetime.fromisoformat(wanted)
    assert times.last(found) == found
    assert times.last(found - 1) < found


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: every(0.5), "the period is 0.5 s; give a second or more"),
        (every, "the period is 0 s"),
        (lambda: every(1, retries=cast("Any", "5")), "a list of seconds"),
        (lambda: every(1, timeout=0), "positive seconds"),
        (lambda: cron("* * *"), "minute, hour, day, month and day of the week"),
        (lambda: cron("99 * * * *"), "Bad minute"),
        (lambda: cron("0 0 30 2 *"), "Bad day-of-month"),
        (lambda: cron("0 3 * * *", tz="Mars"), "'Mars'.* is no time zone"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(make: Any, why: str) -> None:
    with pytest.raises((ValueError, TypeError), match=why):
        make()


def test_a_method_with_arguments_cannot_be_scheduled() -> None:
    with pytest.raises(TypeError, match=r"Odd\.work takes nothing"):

        class Odd(Service):
            @every(1)
            async def work(self, name: str) -> None: ...
