"""A few values have the number, the sum and the quantiles of all observations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from kitmsg.metrics.memory import MemoryMetrics
from kitmsg.metrics.spread import quantile, spread
from kitmsg.testing.metrics import SAMPLES, known_samples

if TYPE_CHECKING:
    from kitmsg.metrics.families import Distribution

FLOATS = st.floats(-1e12, 1e12).filter(lambda x: x == 0 or abs(x) > 1e-12)
MOST = 50


def observed(
    values: list[float], bounds: tuple[float, ...], *, fine: bool
) -> Distribution:
    metrics = MemoryMetrics(fine=fine)
    histogram = metrics.histogram("x", bounds=bounds)
    for value in values:
        histogram.observe(value)
    (family,) = metrics.collect()
    return family.distributions[0]


@given(st.lists(FLOATS, min_size=1, max_size=300), st.booleans())
def test_number_and_order_are_kept(values: list[float], fine: bool) -> None:
    """Whatever is observed; each value stands for a power of two."""
    found = observed(values, (0.0, 1.0, 100.0), fine=fine)
    spread_out = spread(found.buckets(), found.total, MOST)
    assert sum(weight for _, weight in spread_out) == len(values)
    assert all(weight & (weight - 1) == 0 for _, weight in spread_out)
    assert len(spread_out) <= MOST + 9
    assert [v for v, _ in spread_out] == sorted(v for v, _ in spread_out)


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=MOST))
def test_values_stay_where_they_were_seen_and_have_the_sum(values: list[float]) -> None:
    """As many values as observations: each lies in its bucket, and the sum is exact."""
    found = observed(values, (1.0, 10.0, 1e3, 1e6), fine=True)
    spread_out = spread(found.buckets(), found.total, MOST)
    assert math.isclose(sum(v for v, _ in spread_out), sum(values), rel_tol=1e-9)
    for (value, _), seen in zip(spread_out, sorted(values), strict=True):
        assert math.isclose(value, seen, rel_tol=0.04)


def test_one_observation_is_told_exactly() -> None:
    """Also in a wide bucket, and beyond the last bound."""
    for value in (0.7, 123.456):
        found = observed([value], (0.5, 1.0), fine=False)
        ((told, weight),) = spread(found.buckets(), found.total, MOST)
        assert weight == 1
        assert math.isclose(told, value)


def test_quantiles_of_coarse_buckets_are_as_good_as_the_buckets() -> None:
    bounds = tuple(float(bound) for bound in range(400, 605, 5))
    found = observed(known_samples(), bounds, fine=False)
    spread_out = spread(found.buckets(), found.total, 1_000)
    samples = sorted(known_samples())
    for q in (0.01, 0.5, 0.9, 0.99):
        assert quantile(spread_out, q) == pytest.approx(
            samples[int(q * SAMPLES)], abs=5
        )


def test_the_known_samples_are_what_they_say() -> None:
    """Go kit's had a slip in the inverse error function, which moved its tails."""
    samples = sorted(known_samples())
    assert len(samples) == SAMPLES == 12_345
    assert sum(samples) / SAMPLES == pytest.approx(500.0, abs=1e-6)
    deviation = math.sqrt(sum((s - 500) ** 2 for s in samples) / SAMPLES)
    assert deviation == pytest.approx(25.0, rel=1e-3)
    # Of a table of the normal distribution.
    for q, sigmas in ((0.5, 0.0), (0.8413, 1.0), (0.9, 1.28155), (0.99, 2.32635)):
        assert samples[int(q * SAMPLES)] == pytest.approx(500 + 25 * sigmas, abs=0.1)
