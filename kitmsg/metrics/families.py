"""Metric families: names, labels and values, as a backend reads them.  No I/O, no format.

Whatever counts keeps plain integers and makes families of them when somebody asks.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "PROCESS",
    "Bucket",
    "Collect",
    "Distribution",
    "Exemplar",
    "Family",
    "Registry",
    "Sample",
    "counter",
    "gauge",
    "histogram",
    "labelled",
    "shown",
]

Sample: TypeAlias = tuple[dict[str, str], float]
"""A sample of a counter or gauge: its labels, its value."""

Bucket: TypeAlias = tuple[float, float, int]
"""Observations in a bucket: its bounds, the lower one outside, and their number."""


@dataclass(slots=True)
class Exemplar:
    """One observation that has a trace.

    Attributes:
        trace_id: Of W3C's traceparent.
        span_id: Likewise.
        value: The observation.
        at: Unix time, in seconds.
    """

    trace_id: str
    span_id: str
    value: float
    at: float


@dataclass(slots=True)
class Distribution:
    """One series of a histogram.

    Attributes:
        labels: Its labels.
        bounds: Upper bounds of the buckets, rising.
        counts: Observations in each bucket, and beyond the last bound.
        total: Sum of the observations.
        fine: Narrower buckets of the same observations, for backends that show quantiles;
            empty where there are none.
        exemplars: By number of the bucket.
    """

    labels: dict[str, str]
    bounds: tuple[float, ...]
    counts: list[int]
    total: float
    fine: list[Bucket] = field(default_factory=list)
    exemplars: dict[int, Exemplar] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of observations."""
        return sum(self.counts)

    def cumulative(self) -> list[int]:
        """Return the observations up to each bound, and all."""
        return list(accumulate(self.counts))

    def buckets(self) -> list[Bucket]:
        """Return the narrowest buckets that there are, without empty ones."""
        if self.fine:
            return self.fine
        edges = (*self.bounds, float("inf"))
        low = min(0.0, edges[0])
        found: list[Bucket] = []
        for high, count in zip(edges, self.counts, strict=True):
            if count:
                found.append((low, high, count))
            low = high
        return found


@dataclass(slots=True)
class Family:
    """One metric.

    Attributes:
        name: Without what a format appends to it; of a counter with ``_total``.
        kind: As Prometheus has it.
        text: Its meaning, for people.
        samples: Its values, unless it is a histogram.
        distributions: Its values, if it is one.
        joins: Makes one value of those of equal series: several parts of a process count
            what adds up, but read the same memory.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    samples: list[Sample] = field(default_factory=list)
    distributions: list[Distribution] = field(default_factory=list)
    joins: Literal["sum", "min", "max"] = "sum"

    def add(self, value: float, **labels: str) -> None:
        """Add a sample."""
        self.samples.append((labels, value))


_JOINS: Final[dict[str, Callable[[float, float], float]]] = {
    "sum": operator.add,
    "min": min,
    "max": max,
}

Collect: TypeAlias = Callable[[], Iterable[Family]]
"""Makes families of what was counted."""


class Registry:
    """The metrics that are shown together; those of one name become one family."""

    def __init__(self) -> None:
        self._collectors: list[Collect] = []

    def register(self, collect: Collect) -> None:
        """Show what `collect` makes, too."""
        self._collectors.append(collect)

    def collect(self) -> Iterator[Family]:
        """Yield all families."""
        yield from joined(f for collect in self._collectors for f in collect())


PROCESS = Registry()
"""Registry of the process, for parts that are made before anything could hand them one.

Clients, upstreams, circuits, limits, hedges, instancers: every page and push loop shows them,
by `shown`.
"""


def shown(own: Collect) -> Collect:
    """Return what collects all that a page or a push loop of this process shows.

    Args:
        own: Makes the families beside `PROCESS`'s.
    """
    return lambda: joined(f for each in (PROCESS.collect, own) for f in each())


def joined(families: Iterable[Family]) -> list[Family]:
    """Return families with those of one name made one, and series of equal labels too."""
    found: dict[str, list[Family]] = {}
    for family in families:
        found.setdefault(family.name, []).append(family)
    return [some[0] if len(some) == 1 else _merged(some) for some in found.values()]


def _merged(families: list[Family]) -> Family:
    """Return families of one name as one, whose series are each there once."""
    join = _JOINS[families[0].joins]
    values: dict[frozenset[tuple[str, str]], Sample] = {}
    for labels, value in (sample for each in families for sample in each.samples):
        key = frozenset(labels.items())
        values[key] = labels, join(values[key][1], value) if key in values else value
    series: dict[frozenset[tuple[str, str]], Distribution] = {}
    for one in (each for family in families for each in family.distributions):
        key = frozenset(one.labels.items())
        series[key] = _added(series[key], one) if key in series else one
    return replace(
        families[0],
        samples=list(values.values()),
        distributions=list(series.values()),
    )


def _added(one: Distribution, two: Distribution) -> Distribution:
    """Return two series of equal labels as one; other bounds than the first's are lost."""
    if one.bounds != two.bounds:
        return one
    has_fine = bool(one.fine and two.fine)
    return replace(
        one,
        counts=[a + b for a, b in zip(one.counts, two.counts, strict=True)],
        total=one.total + two.total,
        fine=sorted(one.fine + two.fine) if has_fine else [],
        exemplars={**one.exemplars, **two.exemplars},
    )


def labelled(families: Iterable[Family], **labels: str) -> Iterator[Family]:
    """Yield families with more labels at every sample; those of a sample win."""
    for family in families:
        if not labels:
            yield family
            continue
        yield replace(
            family,
            samples=[({**labels, **own}, value) for own, value in family.samples],
            distributions=[
                replace(each, labels={**labels, **each.labels})
                for each in family.distributions
            ],
        )


def counter(name: str, text: str) -> Family:
    """Return a family of counters; `name` ends in ``_total``."""
    return Family(name, "counter", text)


def gauge(name: str, text: str) -> Family:
    """Return a family of gauges."""
    return Family(name, "gauge", text)


def histogram(name: str, text: str) -> Family:
    """Return a family of histograms."""
    return Family(name, "histogram", text)
