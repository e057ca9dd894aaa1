"""Counters of one endpoint."""

from __future__ import annotations

import itertools
import random

import msgspec
import pytest

from kitmsg.metrics.stats import BOUNDS_NS, EndpointStats, quantile


def test_bounds_grow() -> None:
    """From about a microsecond to more than two minutes, four to each power of two."""
    assert list(BOUNDS_NS) == sorted(set(BOUNDS_NS))
    assert BOUNDS_NS[0] == 1280
    assert BOUNDS_NS[-1] == 1 << 37
    steps = [b / a for a, b in itertools.pairwise(BOUNDS_NS)]
    assert max(steps) <= 1.25


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("q", [0.5, 0.9, 0.99, 1.0])
def test_a_quantile_is_at_most_a_quarter_too_high(seed: int, q: float) -> None:
    """And never too low, over the whole range."""
    noise = random.Random(seed)  # repeatable
    values = sorted(int(2 ** noise.uniform(10, 37)) for _ in range(999))
    stats = EndpointStats()
    for value in values:
        stats.observe(value)
    exact = values[max(0, -int(-q * len(values) // 1) - 1)]
    assert exact <= quantile(stats.snapshot().buckets, q) <= exact * 1.25 + 1


@pytest.mark.parametrize("duration", [0, 1, 1023, 1 << 37, 1 << 60])
def test_the_ends_are_open(duration: int) -> None:
    """What is too short or too long for any bucket is in the first or the last."""
    stats = EndpointStats()
    stats.observe(duration)
    buckets = stats.snapshot().buckets
    assert sum(buckets) == 1
    assert buckets[0 if duration < 1024 else -1] == 1


def test_no_turns_no_quantile() -> None:
    """It is 0 then."""
    assert quantile(EndpointStats().snapshot().buckets, 0.5) == 0


def test_counting() -> None:
    """Requests, time in whole nanoseconds, errors and the last of them."""
    stats = EndpointStats()
    stats.observe(2000)
    stats.observe(3000)
    stats.failed("internal", "a")
    stats.failed("not_found", "b")
    seen = stats.snapshot()
    assert (seen.requests, seen.processing_ns, seen.errors) == (2, 5000, 2)
    assert seen.last_error == "not_found:b"


def test_a_snapshot_does_not_change() -> None:
    """It is one reading."""
    stats = EndpointStats()
    before = stats.snapshot()
    stats.observe(5)
    stats.called_by("a.b")
    assert (before.requests, sum(before.buckets), before.callers) == (0, 0, {})


def test_callers_are_bounded() -> None:
    """A hundred names, then ``other``: a hostile caller cannot fill the memory."""
    stats = EndpointStats()
    for n in range(150):
        stats.called_by(f"c.{n}")
    stats.called_by("c.0")
    callers = stats.snapshot().callers
    assert len(callers) == 101
    assert (callers["c.0"], callers["other"]) == (2, 50)


def test_any_text_can_be_reported() -> None:
    """An endless error, half a surrogate pair or a long name spoil no report."""
    stats = EndpointStats()
    stats.called_by("c" * 1_000_000)
    stats.failed("internal", "caf\udce9 " + "x" * 3_000_000)
    assert len(msgspec.json.encode(stats.snapshot())) < 5000
    assert stats.snapshot().last_error.startswith("internal:caf? xxx")


def test_reset() -> None:
    """Starts again from zero."""
    stats = EndpointStats()
    stats.observe(5000)
    stats.failed("internal", "a")
    stats.called_by("a.b")
    stats.shed = stats.expired = stats.cancelled = stats.invalid = 1
    stats.reset()
    assert stats.snapshot() == EndpointStats().snapshot()
