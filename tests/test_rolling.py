"""Counts of a moving window."""

from __future__ import annotations

from collections import deque

from hypothesis import given, strategies as st

from kitmsg.rolling import Rolling

STEPS = st.lists(
    st.tuples(st.integers(0, 400), st.sampled_from(["succeeded", "failed", "refused"])),
    max_size=60,
)


@given(STEPS)
def test_holds_what_a_list_of_all_would(steps: list[tuple[int, str]]) -> None:
    """At any time the sums are those of the last ten buckets, however time jumps."""
    rolling, past, tick = Rolling(10.0), deque[tuple[int, str]](), 0
    for ahead, what in steps:
        tick += ahead
        now = tick / 10 + 0.05
        getattr(rolling, what)(now)
        past.append((int(now), what))
        recent = [kind for at, kind in past if at > int(now) - 10]
        assert rolling.successes == recent.count("succeeded")
        assert rolling.failures == recent.count("failed")
        assert rolling.refusals == recent.count("refused")
        assert rolling.total == len(recent)


def test_streaks_stop_at_the_first_bucket_of_the_other_kind() -> None:
    """Quiet buckets and refusals neither end nor lengthen a streak."""
    rolling = Rolling(10.0)
    rolling.failed(0.5)
    rolling.succeeded(2.5)
    rolling.refused(4.5)
    rolling.succeeded(5.5)
    assert rolling.streaks() == (2, 0)
    rolling.failed(6.5)
    assert rolling.streaks() == (0, 1)
    rolling.succeeded(6.6)
    assert rolling.streaks() == (0, 0)


def test_clear_forgets_everything() -> None:
    """After it the window is as new."""
    rolling = Rolling(10.0)
    rolling.failed(1.0)
    rolling.clear()
    assert (rolling.total, rolling.streaks()) == (0, (0, 0))
