"""Calls at one side: how many, how they ended, how long they took, how many run.

Hot path: `Calls.observe` runs for each call: one look-up, two additions.  The families are
``kitmsg_{side}_requests_total``, ``_duration_seconds`` and ``_in_flight``; labels never
come from a request.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import TYPE_CHECKING, Final, Literal

from kitmsg.metrics.families import (
    Distribution,
    Exemplar,
    Registry,
    counter,
    gauge,
    histogram,
)
from kitmsg.metrics.stats import BOUNDS_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kitmsg.metrics.families import Family

__all__ = ["MOST_SERIES", "OTHER", "Calls", "Series", "labels_of"]

MOST_SERIES: Final = 5_000
"""Endpoints times codes; what comes after is counted as `OTHER`."""

OTHER: Final = "other"
"""Stands for every endpoint that is not served, since a stranger can name any number."""

_SAMPLED: Final = 15  # one call in 16 of a bucket may become an exemplar
_LONG_SECONDS: Final = 0.1  # and each that takes so long


class Series:
    """The calls of one endpoint that ended alike.

    Attributes:
        buckets: Their durations, by `BOUNDS_SECONDS`.
        seconds: Sum of those.
        exemplars: The last that has a trace, by bucket.
    """

    __slots__ = ("buckets", "exemplars", "seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS_SECONDS) + 1)
        self.seconds = 0.0
        self.exemplars: dict[int, Exemplar] = {}

    @property
    def count(self) -> int:
        """The number of them."""
        return sum(self.buckets)

    def observe(self, seconds: float) -> int:
        """Count one; returns how many its bucket has now."""
        bucket = bisect_left(BOUNDS_SECONDS, seconds)
        self.buckets[bucket] += 1
        self.seconds += seconds
        return self.buckets[bucket]

    def distribution(self, labels: dict[str, str]) -> Distribution:
        """Return the durations as they are now."""
        counts, exemplars = self.buckets.copy(), self.exemplars.copy()
        return Distribution(
            labels, BOUNDS_SECONDS, counts, self.seconds, exemplars=exemplars
        )


class Calls:
    """The counters of one side.

    Args:
        side: Which: ``server``, ``client``, ``gateway`` or ``upstream``.
        labels: Labels of all samples.

    Attributes:
        in_flight: Calls that run now; whoever runs them counts.
        registry: What is shown together with them.
    """

    def __init__(
        self,
        side: Literal["server", "client", "gateway", "upstream"],
        **labels: str,
    ) -> None:
        self.in_flight = 0
        self.registry = Registry()
        self.registry.register(self._families)
        self._prefix = f"kitmsg_{side}_"
        self._labels = labels
        self._series: dict[tuple[str, str], Series] = {}

    def observe(self, name: str, code: str, seconds: float) -> bool:
        """Count one call.

        Args:
            name: ``service.endpoint``, or `OTHER`.
            code: ``ok``, or the name of the failure's code.
            seconds: From the first look at it to the answer.

        Returns:
            Whether its trace is wanted by `exemplify`: of one in 16 of each bucket, and
            of each long one.
        """
        series = self._series.get((name, code))
        if series is None:
            series = self._new(name, code)
        return series.observe(seconds) & _SAMPLED == 1 or seconds > _LONG_SECONDS

    def exemplify(
        self, name: str, code: str, seconds: float, trace: tuple[str, str] | None
    ) -> None:
        """Keep the trace of a call that was counted as an exemplar; None is not kept."""
        series = self._series.get((name, code)) or self._series.get((OTHER, code))
        if series is not None and trace is not None:
            bucket = bisect_left(BOUNDS_SECONDS, seconds)
            series.exemplars[bucket] = Exemplar(*trace, seconds, time.time())

    def _new(self, name: str, code: str) -> Series:
        """Return the series of a name that is new; past `MOST_SERIES`, that of ``other``."""
        if len(self._series) >= MOST_SERIES:
            name = OTHER
        return self._series.setdefault((name, code), Series())

    def count(self, name: str, code: str) -> int:
        """Return how many calls of an endpoint ended so."""
        series = self._series.get((name, code))
        return series.count if series else 0

    def collect(self) -> Iterator[Family]:
        """Yield the families, and those that are shown together with them."""
        return self.registry.collect()

    def _families(self) -> Iterable[Family]:
        prefix = self._prefix
        requests = counter(f"{prefix}requests_total", "Calls that ended.")
        durations = histogram(f"{prefix}duration_seconds", "Time from call to answer.")
        for (name, code), series in sorted(self._series.items()):
            labels = {**self._labels, **labels_of(name), "code": code}
            requests.add(series.count, **labels)
            durations.distributions.append(series.distribution(labels))
        running = gauge(f"{prefix}in_flight", "Calls that run now.")
        running.add(self.in_flight, **self._labels)
        return requests, durations, running


def labels_of(name: str) -> dict[str, str]:
    """Return the labels of an endpoint: its service, and its dotted name."""
    service = "" if name[:1] == "/" else name.partition(".")[0]
    return {"service": service, "endpoint": name}
