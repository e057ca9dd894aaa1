"""What every store promises of schedules: one suite, on memory and on a real server."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import pytest

from kitmsg.errors import InvalidArgument
from kitmsg.jetstream import Schedule
from kitmsg.jetstream.checks import LAST_TIME

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.jetstream import JetStream, Stored, Stream


async def came(stream: Stream, subject: str, count: int) -> list[Stored]:
    """Return the messages of a subject, when there are so many."""
    async with asyncio.timeout(20):
        while True:
            found = [one async for one in stream.read(subject)]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.02)


async def test_a_message_is_published_at_its_time(
    store: JetStream, stream: Stream, name: str
) -> None:
    """Never early; with its headers, on its target; the schedule is gone then."""
    due = store.now() + 0.7
    later = Schedule.at(due, f"{name}.due")
    await store.publish(f"{name}.later.1", b"x", {"Kit-X": "1"}, schedule=later)
    assert await stream.subjects() == {f"{name}.later.1": 1}
    (found,) = await came(stream, f"{name}.due", 1)
    assert found.time >= due - 0.001
    assert found.data == b"x"
    assert found.headers["Kit-X"] == "1"
    assert found.headers["Nats-Scheduler"] == f"{name}.later.1"
    assert await stream.subjects() == {f"{name}.due": 1}


async def test_a_time_that_is_over_is_due_at_once(
    store: JetStream, stream: Stream, name: str
) -> None:
    """As after an outage."""
    past = Schedule.at(store.now() - 3600, f"{name}.due")
    await store.publish(f"{name}.later", b"x", schedule=past)
    assert len(await came(stream, f"{name}.due", 1)) == 1


@pytest.mark.parametrize("time", [-1.0, -9_300_000_000.0, -62_135_596_800.0, -1e300])
async def test_a_time_of_any_past_is_due_at_once(
    store: JetStream, stream: Stream, name: str, time: float
) -> None:
    """Also one before 1678, which a server takes for one that comes."""
    past = Schedule.at(time, f"{name}.due")
    await store.publish(f"{name}.later", b"x", schedule=past)
    assert len(await came(stream, f"{name}.due", 1)) == 1


async def test_the_last_time_waits(store: JetStream, stream: Stream, name: str) -> None:
    """It is in 2262: later ones a server would take for past ones."""
    last = Schedule.at(LAST_TIME, f"{name}.due")
    await store.publish(f"{name}.later.last", b"x", schedule=last)
    soon = Schedule.at(store.now() + 0.3, f"{name}.due")
    await store.publish(f"{name}.later.soon", b"y", schedule=soon)
    (found,) = await came(stream, f"{name}.due", 1)
    assert found.data == b"y"
    assert f"{name}.later.last" in await stream.subjects()


@pytest.mark.parametrize("time", [LAST_TIME + 1, 253_402_214_400.0, 1e300, math.inf])
def test_a_time_that_no_server_can_hold_is_refused(time: float) -> None:
    """In words, and not sent at once."""
    with pytest.raises(InvalidArgument, match="no time that NATS can hold"):
        Schedule.at(time, "a.due")


async def test_the_newest_schedule_of_a_subject_counts(
    store: JetStream, stream: Stream, name: str
) -> None:
    """One that was there is replaced."""
    long, soon = store.now() + 3600, store.now() + 0.3
    await store.publish(
        f"{name}.later", b"1", schedule=Schedule.at(long, f"{name}.due")
    )
    await store.publish(
        f"{name}.later", b"2", schedule=Schedule.at(soon, f"{name}.due")
    )
    assert await stream.subjects(f"{name}.later") == {f"{name}.later": 1}
    (found,) = await came(stream, f"{name}.due", 1)
    assert found.data == b"2"


async def test_a_purge_cancels(store: JetStream, stream: Stream, name: str) -> None:
    """Nothing is published."""
    soon = Schedule.at(store.now() + 0.3, f"{name}.due")
    await store.publish(f"{name}.later.1", b"1", schedule=soon)
    await store.publish(f"{name}.later.2", b"2", schedule=soon)
    assert await stream.purge(f"{name}.later.1") == 1
    (found,) = await came(stream, f"{name}.due", 1)
    assert found.data == b"2"
    await asyncio.sleep(0.3)
    assert len(await came(stream, f"{name}.due", 1)) == 1


async def test_a_message_may_cancel_a_schedule(
    store: JetStream, stream: Stream, name: str
) -> None:
    """In the same step as it is stored."""
    later = Schedule.at(store.now() + 3600, f"{name}.due")
    await store.publish(f"{name}.later", b"1", schedule=later)
    await store.publish(
        f"{name}.done",
        b"2",
        {"Nats-Scheduler": f"{name}.later", "Nats-Schedule-Next": "purge"},
    )
    assert await stream.subjects() == {f"{name}.done": 1}


async def test_a_schedule_may_repeat(
    store: JetStream, stream: Stream, name: str
) -> None:
    """By seconds, and by the fields of cron; the schedule stays."""
    begun = store.now()
    await store.publish(f"{name}.every", b"e", schedule=Schedule.every(1, f"{name}.e"))
    await store.publish(
        f"{name}.cron", b"c", schedule=Schedule.cron("*/1 * * * * *", f"{name}.c")
    )
    every = await came(stream, f"{name}.e", 2)
    cron = await came(stream, f"{name}.c", 2)
    assert every[0].time >= begun  # a server counts in whole seconds
    assert every[1].time > every[0].time + 0.1  # one may be late
    assert int(cron[1].time) > int(cron[0].time)
    assert f"{name}.every" in await stream.subjects()


async def test_what_is_published_may_live_for_a_while(
    store: JetStream, stream: Stream, name: str
) -> None:
    """The schedule says how long."""
    soon = Schedule.at(store.now() + 0.1, f"{name}.due", ttl=1)
    await store.publish(f"{name}.later", b"1", schedule=soon)
    await came(stream, f"{name}.due", 1)
    async with asyncio.timeout(20):
        while await stream.subjects():
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "rule", ["@at soon", "@every 1x", "* * *", "61 * * * * *", "@sometimes", "x"]
)
async def test_a_rule_that_is_none_is_refused(
    store: JetStream, stream: Stream, name: str, rule: str
) -> None:
    """Nothing is stored."""
    with pytest.raises(InvalidArgument, match="schedules pattern is invalid"):
        await store.publish(f"{name}.x", schedule=Schedule(rule, f"{name}.due"))
    assert (await stream.info()).messages == 0


async def test_a_target_is_another_subject_of_the_stream(
    store: JetStream, stream: Stream, name: str
) -> None:
    """Not of another stream, not its own, no pattern."""
    for target in (f"{name}.x", "elsewhere", ""):
        schedule = Schedule("@at 2100-01-01T00:00:00Z", target)
        with pytest.raises(InvalidArgument, match="target is invalid"):
            await store.publish(f"{name}.x", schedule=schedule)
    assert (await stream.info()).messages == 0


async def test_a_time_zone_counts(store: JetStream, stream: Stream, name: str) -> None:
    """One that there is not is refused."""
    rule, target = "0 0 3 * * *", f"{name}.due"
    there = Schedule.cron(rule, target, time_zone="Europe/Paris")
    await store.publish(f"{name}.x", schedule=there)
    none = Schedule.cron(rule, target, time_zone="Europe/Nowhere")
    with pytest.raises(InvalidArgument, match="invalid"):
        await store.publish(f"{name}.y", schedule=none)


def test_a_schedule_is_checked_when_it_is_made() -> None:
    """Times are finite, repeats last a second, targets are subjects."""
    makes: list[Callable[[], Schedule]] = [
        lambda: Schedule.at(math.nan, "a"),
        lambda: Schedule.at(math.inf, "a"),
        lambda: Schedule.every(0.5, "a"),
        lambda: Schedule.every(math.nan, "a"),
        lambda: Schedule.at(0, "a.*"),
        lambda: Schedule.cron("* * * * * *", "a b"),
    ]
    for make in makes:
        with pytest.raises(InvalidArgument):
            make()
