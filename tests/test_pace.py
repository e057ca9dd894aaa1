"""When a process is overloaded, and what it can still do."""

from __future__ import annotations

from typing import Any

import pytest

from kitmsg.pace import Pace


class Load:
    """A mailbox of which 10,000 turns a second are done, seen every 50 ms."""

    def __init__(self) -> None:
        self.pace = Pace(0.05, least=64)
        self.now = 0.0
        self.done = self.waiting = self.turned_away = 0
        self.pace.begin(0.0, 0)

    def tick(
        self, came: int, *, done: int = 500, turned_away: int = 0, **facts: Any
    ) -> int | None:
        """Let `came` turns come and `done` be done until the next tick."""
        late = facts.pop("late", 0.0)
        self.now += 0.05 + late
        self.done += done
        self.waiting += came - done
        self.turned_away += turned_away
        return self.pace.tick(
            self.now,
            self.done,
            waiting=self.waiting,
            turned_away=self.turned_away,
            is_full=facts.get("is_full", False),
            is_away=facts.get("is_away", False),
        )


def test_a_backlog_that_stays_leaves_room_for_what_50_ms_can_do() -> None:
    """A quarter of a second of work that does not shrink, three times in a row."""
    load = Load()
    assert load.tick(4000) is None
    assert load.tick(600) is None
    assert load.tick(600) == 500


def test_a_burst_is_no_overload() -> None:
    """It shrinks by what is done: all of it is done."""
    load = Load()
    assert [load.tick(4000), *(load.tick(0) for _ in range(7))] == [None] * 8


def test_a_backlog_of_turns_that_sleep_is_no_overload() -> None:
    """As many run as may, and the loop is in time; if it is late it is one."""
    load = Load()
    load.tick(4000, is_full=True)
    assert [load.tick(500, is_full=True) for _ in range(10)] == [None] * 10
    late = [load.tick(500, is_full=True, late=0.03) for _ in range(3)]
    assert late == [None, None, 500]


def test_as_many_callers_as_run_at_once_are_no_overload() -> None:
    """However slow the turns are: 64 wait for half a minute here."""
    load = Load()
    load.tick(64, done=0)
    assert [load.tick(1, done=1) for _ in range(50)] == [None] * 50


@pytest.mark.parametrize(
    "pressed", [{"turned_away": 1}, {"is_away": True}], ids=["refusals", "others"]
)
def test_an_overload_lasts_as_long_as_turns_are_turned_away(
    pressed: dict[str, Any],
) -> None:
    """A short backlog is no sign that the load is gone: it is short because of that."""
    load = Load()
    load.tick(4000)
    load.tick(500)
    load.tick(500)
    load.waiting = 100
    assert [load.tick(500, **pressed) for _ in range(50)] == [500] * 50
    assert [load.tick(500) for _ in range(20)] == [500] * 19 + [None]


def test_few_may_wait_for_slow_turns() -> None:
    """Not fewer than run at once."""
    load = Load()
    limits = [load.tick(200, done=1) for _ in range(4)]
    assert limits[-1] == 64
