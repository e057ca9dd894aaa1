"""Promises of every instancer whatever its system is, told with a made-up one."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING

import pytest

from kitmsg.discovery.backoff import Backoff
from kitmsg.discovery.instance import Instance
from kitmsg.discovery.instancer import WatchedInstancer
from kitmsg.errors import Unavailable
from kitmsg.metrics.families import PROCESS
from kitmsg.testing import VirtualTimeLoop

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence


@pytest.fixture
def anyio_backend():
    return "asyncio", {"loop_factory": VirtualTimeLoop}


def some(*addresses: str) -> list[Instance]:
    return [Instance(address=each) for each in addresses]


FLAPPING: list[Sequence[Instance] | Exception]
FLAPPING = [some("a:1"), OSError("flap")] * 1000


class Script:
    """A system that does as it is told: yields a set, raises, or hangs at the end."""

    name = "made-up"

    def __init__(self, *acts: Sequence[Instance] | Exception) -> None:
        self.acts = list(acts)
        self.watches: list[float] = []
        self.opened = 0
        self.more = asyncio.Event()

    def then(self, *acts: Sequence[Instance] | Exception) -> None:
        self.acts += acts
        self.more.set()

    async def sets(self) -> AsyncGenerator[Sequence[Instance], None]:
        self.watches.append(asyncio.get_running_loop().time())
        self.opened += 1
        try:
            while True:
                while self.acts:
                    act = self.acts.pop(0)
                    if isinstance(act, Exception):
                        raise act
                    yield act
                self.more.clear()
                await self.more.wait()
        finally:
            self.opened -= 1


async def test_an_observer_is_told_whole_sets_in_one_order_and_none_twice():
    source = Script(some("b:1", "a:1"), some("a:1", "b:1"), some("a:1"))
    told: list[tuple[str, ...]] = []
    instancer = WatchedInstancer(source)
    instancer.watch(lambda found: told.append(tuple(map(str, found))))
    await asyncio.sleep(1)
    assert told == [("a:1", "b:1"), ("a:1",)]
    await instancer.close()


async def test_a_late_observer_is_told_the_set_that_is_known_at_once():
    instancer = WatchedInstancer(Script(some("a:1")))
    instancer.watch(lambda _: None)
    await instancer.settled()
    told: list[tuple[Instance, ...]] = []
    instancer.watch(told.append)
    assert told == [tuple(some("a:1"))]
    await instancer.close()


async def test_the_last_good_set_stays_with_its_age_and_the_error():
    source = Script(some("a:1"), OSError("cable cut"))
    instancer = WatchedInstancer(source)
    told: list[tuple[Instance, ...]] = []
    instancer.watch(told.append)
    await instancer.settled()
    source.acts += [OSError("cable cut")] * 100
    await asyncio.sleep(40)
    state = instancer.state
    assert state.instances == tuple(some("a:1"))
    assert 39 < state.age <= 40
    assert isinstance(state.error, Unavailable)
    assert str(state.error) == "made-up: OSError: cable cut"
    source.acts[:] = [some("a:1")]
    await asyncio.sleep(31)
    assert instancer.state.error is None
    assert instancer.state.age == 0
    assert len(told) == 1  # the same set, so nobody heard of it
    await instancer.close()


async def test_before_any_answer_there_is_an_error_and_no_set():
    instancer = WatchedInstancer(Script(OSError("refused")))
    told: list[tuple[Instance, ...]] = []
    instancer.watch(told.append)
    state = await instancer.settled()
    assert (state.instances, state.age, told) == ((), math.inf, [])
    assert "refused" in str(state.error)
    await instancer.close()


async def test_waits_grow_to_their_cap_and_never_below_half_of_it():
    source = Script(*[OSError("down")] * 1000)
    instancer = WatchedInstancer(source)
    instancer.watch(lambda _: None)
    await asyncio.sleep(3600)
    waits = [b - a for a, b in zip(source.watches, source.watches[1:], strict=False)]
    assert 0.05 <= waits[0] <= 0.1
    assert max(waits) <= 30
    assert min(waits[10:]) >= 15
    assert len(set(waits[10:])) > 50  # jitter
    await instancer.close()


async def test_a_system_that_answers_and_fails_at_once_is_asked_ever_less_often():
    source = Script(*FLAPPING)
    instancer = WatchedInstancer(source)
    instancer.watch(lambda _: None)
    await asyncio.sleep(600)
    assert len(source.watches) < 50
    await instancer.close()


async def test_after_a_good_time_the_first_wait_is_short_again():
    backoff = Backoff()
    for _ in range(20):
        backoff.next()
    assert backoff.next(lasted=6) <= 0.1


async def test_each_change_of_state_is_one_line_in_the_log(caplog):
    caplog.set_level(logging.INFO, "kitmsg.discovery")
    source = Script(some("a:1"), *[OSError("down")] * 5)
    instancer = WatchedInstancer(source)
    instancer.watch(lambda _: None)
    await asyncio.sleep(600)
    source.then(some("a:1"), some("a:1", "b:1"))
    await asyncio.sleep(600)
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("WARNING", "made-up: OSError: down; 1 instance of before stay"),
        ("INFO", "made-up answers: 1 instance"),
    ]
    await instancer.close()


async def test_invalidate_after_empties_the_set_once_and_the_return_fills_it():
    source = Script(some("a:1"), *[OSError("down")] * 1000)
    instancer = WatchedInstancer(source, invalidate_after=60)
    told: list[tuple[Instance, ...]] = []
    instancer.watch(told.append)
    await asyncio.sleep(59)
    assert len(told) == 1
    await asyncio.sleep(200)
    assert told == [tuple(some("a:1")), ()]
    source.acts[:] = [some("a:1")]
    await asyncio.sleep(31)
    assert told[2:] == [tuple(some("a:1"))]
    await instancer.close()


async def test_a_return_in_time_keeps_the_set():
    source = Script(some("a:1"), OSError("down"), some("a:1"))
    instancer = WatchedInstancer(source, invalidate_after=60)
    told: list[tuple[Instance, ...]] = []
    instancer.watch(told.append)
    await asyncio.sleep(600)
    assert len(told) == 1
    await instancer.close()


async def test_a_system_that_returns_without_its_memory_takes_nobody_away_for_a_while():
    source = Script(some("a:1", "b:1"), OSError("down"), [], some("b:1", "c:1"))
    instancer = WatchedInstancer(source, grace=15)
    told: list[str] = []
    instancer.watch(lambda found: told.append(" ".join(map(str, found))))
    await asyncio.sleep(10)
    assert told == ["a:1 b:1", "a:1 b:1 c:1"]
    await asyncio.sleep(10)
    assert told[2:] == ["b:1 c:1"]  # as it says by now
    source.then(some("c:1"))
    await asyncio.sleep(1)
    assert told[3:] == ["c:1"]  # nothing was lost before, so at once
    await instancer.close()


async def test_facts_that_changed_during_a_loss_count_at_once():
    source = Script([Instance(address="a:1", weight=1)], OSError("down"))
    instancer = WatchedInstancer(source, grace=15)
    instancer.watch(lambda _: None)
    source.acts.append([Instance(address="a:1", weight=5)])
    await asyncio.sleep(1)
    assert [each.weight for each in instancer.state.instances] == [5]
    await instancer.close()


async def test_a_failing_observer_is_logged_and_told_the_next_set(caplog):
    source = Script(some("a:1"))
    instancer = WatchedInstancer(source)
    seen: list[int] = []

    def fails(found: tuple[Instance, ...]) -> None:
        seen.append(len(found))
        raise RuntimeError("mine")

    told: list[int] = []
    instancer.watch(fails)
    instancer.watch(lambda found: told.append(len(found)))
    await instancer.settled()
    source.then(some("a:1", "b:1"))
    await asyncio.sleep(1)
    assert seen == told == [1, 2]
    assert "an observer of made-up failed" in caplog.text
    await instancer.close()


async def test_a_slow_observer_holds_nobody_up_and_skips_to_the_newest_set():
    source = Script(some("a:1"))
    instancer = WatchedInstancer(source)
    slow: list[int] = []
    quick: list[int] = []

    async def takes_long(found: tuple[Instance, ...]) -> None:
        slow.append(len(found))
        await asyncio.sleep(10)

    instancer.watch(takes_long)
    instancer.watch(lambda found: quick.append(len(found)))
    await instancer.settled()
    source.then(some("a:1", "b:1"), some("a:1", "b:1", "c:1"))
    await asyncio.sleep(1)
    assert (slow, quick) == ([1], [1, 2, 3])
    await asyncio.sleep(30)
    assert slow == [1, 3]
    await instancer.close()


async def test_an_observer_may_leave_from_its_own_call():
    source = Script(some("a:1"))
    instancer = WatchedInstancer(source)
    done: list[str] = []

    async def once(found: tuple[Instance, ...]) -> None:
        leave()
        await asyncio.sleep(1)
        done.append(str(found[0]))

    leave = instancer.watch(once)
    await asyncio.sleep(5)
    assert done == ["a:1"]
    assert not source.opened
    await instancer.close()


async def test_the_system_is_watched_while_anybody_watches():
    source = Script(some("a:1"), OSError("flap"), some("a:1"))
    instancer = WatchedInstancer(source)
    assert source.watches == []
    leave, others = instancer.watch(lambda _: None), instancer.watch(lambda _: None)
    await asyncio.sleep(1)
    leave()
    leave()
    await asyncio.sleep(1)
    assert source.opened == 1
    others()
    await asyncio.sleep(1)
    assert source.opened == 0
    assert instancer.state.instances == ()  # nobody knows whether it is still true
    await instancer.close()


async def test_close_ends_every_task_and_releases_who_waits():
    before = asyncio.all_tasks()
    source = Script()
    instancer = WatchedInstancer(source)

    async def hangs(_: tuple[Instance, ...]) -> None:
        await asyncio.Event().wait()

    instancer.watch(hangs)
    waiting = asyncio.create_task(instancer.settled())
    await asyncio.sleep(1)
    await instancer.close()
    assert not source.opened
    assert (await waiting).instances == ()
    source = Script(some("a:1"))
    instancer = WatchedInstancer(source)
    instancer.watch(hangs)
    await asyncio.sleep(1)
    await instancer.close()
    assert asyncio.all_tasks() == before


async def test_what_is_watched_is_a_metric_while_it_is() -> None:
    """How many instances a system told, and whether it answers."""

    def shown() -> dict[str, float]:
        return {
            family.name: value
            for family in PROCESS.collect()
            for labels, value in family.samples
            if labels == {"source": "made-up metric"}
        }

    source = Script(some("a:1", "b:1"), OSError("gone"))
    source.name = "made-up metric"
    instancer = WatchedInstancer(source)
    assert shown() == {}
    instancer.watch(lambda _: None)
    await instancer.settled()
    assert shown()["kitmsg_discovery_instances"] == 2
    await asyncio.sleep(0.01)
    assert shown()["kitmsg_discovery_connected"] == 0
    await instancer.close()
    assert shown() == {}
