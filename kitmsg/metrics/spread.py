"""Values that stand for a distribution, where a receiver wants observations.

Buckets say how many observations lie where; `spread` gives a few values with the same
number, sum and quantiles.  StatsD and DogStatsD get them as timings with a sampling rate,
Graphite and InfluxDB get their quantiles.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kitmsg.metrics.families import Bucket

__all__ = ["Value", "quantile", "spread"]

Value: TypeAlias = tuple[float, int]
"""A value, and how many observations it stands for."""

_Placed: TypeAlias = tuple[float, float, float]
"""A value, and the bounds of its bucket."""


def spread(buckets: Sequence[Bucket], total: float, most: int) -> list[Value]:
    """Return about `most` values, rising, that stand for all observations.

    Each stands for a power of two of them: receivers cut ``1 / rate`` to a whole number.
    There are fewer than ``most + log2(observations)``.

    Args:
        buckets: Without empty ones; the last may be open.
        total: Sum of the observations, and of what is returned.
        most: At least 1.
    """
    count = sum(bucket[2] for bucket in buckets)
    if not count:
        return []
    weights = _weights(count, most)
    placed = list(_placed(buckets, weights))
    missing = total - sum(v * w for (v, _, _), w in zip(placed, weights, strict=True))
    return sorted(zip(_moved(placed, weights, missing), weights, strict=True))


def quantile(values: Sequence[Value], q: float) -> float:
    """Return quantile `q`, from 0 to 1, of rising values; there is at least one."""
    left = q * sum(weight for _, weight in values)
    for value, weight in values:
        left -= weight
        if left < 0:
            return value
    return values[-1][0]


def _weights(count: int, most: int) -> list[int]:
    """Return powers of two whose sum is `count`: nearly all are the largest one."""
    each = 1
    while count > most * each:
        each *= 2
    number, rest = divmod(count, each)
    # The few that stand for less are in the middle, where they move no quantile.
    few = [bit for shift in range(rest.bit_length()) if (bit := 1 << shift) & rest]
    half = number // 2
    return [each] * half + few + [each] * (number - half)


def _placed(buckets: Sequence[Bucket], weights: Sequence[int]) -> Iterator[_Placed]:
    """Yield a value in the middle of each weight's ranks."""
    rest = iter(buckets)
    low, high, held = next(rest)
    before = passed = 0
    for weight in weights:
        rank = passed + weight / 2
        passed += weight
        while rank > before + held:
            before += held
            low, high, held = next(rest)
        share = (rank - before) / held
        yield (low + share * (high - low) if high < math.inf else low), low, high


def _moved(
    placed: Sequence[_Placed], weights: Sequence[int], missing: float
) -> list[float]:
    """Return the values, moved within their buckets so that `missing` is no more.

    Where an observation lies in its bucket is a guess, so what is missing of the sum is
    shared out by the room that each value has.
    """
    if missing > 0 and placed[-1][2] == math.inf:
        rooms = [float(high == math.inf) for _, _, high in placed]
        limit = math.inf
    else:
        rooms = [(high if missing > 0 else low) - value for value, low, high in placed]
        limit = 1.0
    whole = sum(room * weight for room, weight in zip(rooms, weights, strict=True))
    step = min(limit, missing / whole) if whole else 0.0
    return [v + room * step for (v, _, _), room in zip(placed, rooms, strict=True)]
