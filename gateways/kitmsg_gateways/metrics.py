"""What the gateways count alike: how many calls, how they ended, how long they took.

Plain integers while calls run; they become Prometheus text when somebody asks
(``pip install 'kitmsg[prometheus]'``).
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any, Final, Protocol

from kitmsg.errors import FailedPrecondition
from kitmsg.metrics.stats import BOUNDS_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["UNKNOWN_METHOD", "Collector", "Durations", "exposition", "serve"]

UNKNOWN_METHOD: Final = "(none)"
"""Stands for every method that is not served: a stranger can name any number."""


class Collector(Protocol):
    """Whatever has metrics to show."""

    def collect(self) -> Iterator[Any]:
        """Yield metric families, as a Prometheus collector does."""
        ...


class _Series:
    """The calls with one set of labels."""

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS_SECONDS) + 1)
        self.seconds = 0.0


class Durations:
    """A histogram of seconds, for each set of labels.

    Args:
        name: Of the metric; ends in ``_seconds``.
        text: What it is, for people.
        labels: Names of the labels.
    """

    def __init__(self, name: str, text: str, labels: Sequence[str]) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self._series: dict[tuple[str, ...], _Series] = {}

    def observe(self, seconds: float, *labels: str) -> None:
        """Count one that took `seconds`."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = _Series()
        series.buckets[bisect_left(BOUNDS_SECONDS, seconds)] += 1
        series.seconds += seconds

    def count(self, *labels: str) -> int:
        """Return how many there were with these labels."""
        series = self._series.get(labels)
        return sum(series.buckets) if series else 0

    def collect(self) -> Iterator[Any]:
        """Yield it, as a Prometheus collector does."""
        from prometheus_client.core import HistogramMetricFamily

        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for labels, series in sorted(self._series.items()):
            family.add_metric(labels, _cumulative(series), series.seconds)
        yield family


def exposition(collector: Collector) -> bytes:
    """Return metrics in Prometheus' text format.

    Raises:
        FailedPrecondition: prometheus-client is not installed.
    """
    registry = _registry(collector)
    from prometheus_client import generate_latest

    return generate_latest(registry)


def serve(collector: Collector, host: str, port: int) -> Callable[[], None]:
    """Serve the page that Prometheus reads; returns what ends that.

    Raises:
        FailedPrecondition: prometheus-client is not installed.
        OSError: The address cannot be had.
    """
    registry = _registry(collector)
    from prometheus_client import start_http_server

    server, thread = start_http_server(port, host, registry)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop


def _registry(collector: Collector) -> Any:
    try:
        from prometheus_client import CollectorRegistry
    except ImportError as exc:
        raise FailedPrecondition(
            "metrics need prometheus-client: pip install 'kitmsg[prometheus]'"
        ) from exc
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return registry


def _cumulative(series: _Series) -> list[tuple[str, float]]:
    total = 0
    found: list[tuple[str, float]] = []
    bounds = (*map(str, BOUNDS_SECONDS), "+Inf")
    for bound, count in zip(bounds, series.buckets, strict=True):
        total += count
        found.append((bound, total))
    return found
