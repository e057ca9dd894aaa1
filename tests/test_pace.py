"""When a process is overloaded, and what it can still do."""

from __future__ import annotations

from kitmsg.pace import Pace


def test_a_late_loop_makes_it_as_short_as_what_50_ms_can_do() -> None:
    """Five late ticks in a row, or three very late ones, are an overload; one pause is none."""
    pace, now, done = Pace(0.05), 0.0, 0
    pace.begin(now, done)

    def tick(late: float, turns: int) -> int | None:
        nonlocal now, done
        now, done = now + 0.05 + late, done + turns
        return pace.tick(now, done)

    assert [tick(0.0, 500) for _ in range(10)] == [None] * 10  # 10,000 a second
    assert tick(3.0, 1) is None
    assert tick(0.0, 10) is None
    assert [tick(0.1, 900) for _ in range(5)] == [None] * 4 + [500]
    assert [tick(0.0, 500) for _ in range(20)] == [500] * 19 + [None]
    assert [tick(0.4, 4000) for _ in range(3)] == [None, None, 500]


def test_an_idle_process_has_its_full_mailbox_again() -> None:
    """Nothing done since the tick before: the overload is over."""
    pace = Pace(0.05)
    pace.begin(0.0, 0)
    allowed = [pace.tick(number * 0.2, number) for number in range(1, 6)]
    assert allowed == [None] * 3 + [16] * 2  # never fewer
    assert pace.tick(1.05, 5) is None


def test_an_overload_lasts_as_long_as_there_are_refusals() -> None:
    """They keep the loop in time, so that is no sign that the load is gone."""
    pace = Pace(0.05)
    pace.begin(0.0, 0)
    for number in range(1, 6):
        pace.tick(number * 0.2, number)
    limits = [pace.tick(1.0 + n * 0.05, n + 5, n) for n in range(1, 41)]
    limits += [pace.tick(3.0 + n * 0.05, n + 45, 40) for n in range(1, 21)]
    assert None not in limits[:-1]
    assert limits[-1] is None
