"""Increments since the last flush: what a push backend sends of families.

Nothing is kept for a receiver that is gone: increments are the difference to what was sent,
so they grow in the counters themselves, and the memory is that of one number per series.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from kitmsg.metrics.spread import spread

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kitmsg.metrics.families import Bucket, Distribution, Family
    from kitmsg.metrics.spread import Value

__all__ = ["MOST_VALUES", "Point", "Window"]

MOST_VALUES: Final = 200
"""Values that stand for the observations of a series between two flushes.

At least half of it are sent where there are that many, so each stands for less than 1 %.
"""

_Key: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
_Sent: TypeAlias = "float | tuple[float, dict[tuple[float, float], int]]"


class Point(NamedTuple):
    """One series at one flush.

    Attributes:
        name: Of its family.
        kind: Of its family.
        labels: Its labels, in their order.
        value: Value of a counter or gauge; sum of a histogram's observations.
        observations: Of a histogram; 0 of others.
        increase: What was added since the last flush: to a counter, or to `observations`.
        values: Values that stand for the observations since then, see `spread`.
        sent: Remembered once the point was sent.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[tuple[str, str], ...]
    value: float
    observations: int
    increase: float
    values: list[Value]
    sent: _Sent


class Window:
    """Memory of the last flush: the numbers that were sent, by series.

    Args:
        most: Most values for the observations of a series between two flushes.
    """

    def __init__(self, most: int = MOST_VALUES) -> None:
        self._most = most
        self._sent: dict[_Key, _Sent] = {}  # of the series that the last `read` saw

    def read(self, families: Iterable[Family]) -> Iterator[Point]:
        """Yield the points; those of series that are gone are forgotten at the end."""
        seen: set[_Key] = set()
        for family in families:
            for labels, value in family.samples:
                key = family.name, tuple(labels.items())
                seen.add(key)
                if not math.isfinite(value):  # no line of text can say it
                    continue
                yield self._number(key, family.kind, value)
            for each in family.distributions:
                key = family.name, tuple(each.labels.items())
                seen.add(key)
                yield self._histogram(key, each)
        for key in self._sent.keys() - seen:
            del self._sent[key]

    def commit(self, point: Point) -> None:
        """Remember that a point was sent."""
        if point.kind != "gauge":
            self._sent[point.name, point.labels] = point.sent

    def _number(
        self, key: _Key, kind: Literal["counter", "gauge", "histogram"], value: float
    ) -> Point:
        before = self._sent.get(key, 0.0)
        assert isinstance(before, (int, float))  # noqa: S101  # a name has one kind
        # One that has fallen was made anew.
        increase = value - before if value >= before else value
        return Point(*(key[0], kind, key[1]), value, 0, increase, [], value)

    def _histogram(self, key: _Key, now: Distribution) -> Point:
        buckets = now.buckets()
        counts = {(low, high): count for low, high, count in buckets}
        count = now.count
        before = self._sent.get(key, (0.0, {}))
        assert isinstance(before, tuple)  # noqa: S101  # a name has one kind
        total, known = before
        if sum(known.values()) > count:  # made anew
            total, known = 0.0, {}
        new: list[Bucket] = [
            (low, high, added)
            for low, high, found in buckets
            if (added := found - known.get((low, high), 0)) > 0
        ]
        values = spread(new, now.total - total, self._most)
        increase = count - sum(known.values())
        sent = now.total, counts
        return Point(
            key[0], "histogram", key[1], now.total, count, increase, values, sent
        )
