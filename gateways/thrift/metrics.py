"""Counts and durations of calls, by endpoint and code; connections, and why they ended.

Plain integers while calls run; they become Prometheus text when somebody asks
(``pip install 'kitmsg[prometheus]'``).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from kitmsg.errors import FailedPrecondition
from kitmsg.metrics.stats import BOUNDS_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["UNKNOWN_METHOD", "Metrics"]

UNKNOWN_METHOD: Final = "(none)"
"""Stands for every method that is not served: a stranger can name any number."""


class _Series:
    """The calls with one set of labels."""

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS_SECONDS) + 1)
        self.seconds = 0.0


class Metrics:
    """The gateway's counters.

    Attributes:
        in_flight: Calls being answered.
        connections: How many are open.
        closed: How many the gateway closed, by reason: ``malformed``, ``slow``, ``idle``,
            ``too_many``, ``stopped``.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self.connections = 0
        self.closed: Counter[str] = Counter()
        self._series: dict[tuple[str, str], _Series] = {}

    def observe(self, method: str, code: str, seconds: float) -> None:
        """Count one call.

        Args:
            method: ``service.endpoint``, or `UNKNOWN_METHOD`.
            code: ``ok``, or the name of the failure's code.
            seconds: From the first look at it to the answer.
        """
        series = self._series.get((method, code))
        if series is None:
            series = self._series[method, code] = _Series()
        series.buckets[bisect_left(BOUNDS_SECONDS, seconds)] += 1
        series.seconds += seconds

    def count(self, method: str, code: str) -> int:
        """Return how many calls ended so."""
        series = self._series.get((method, code))
        return sum(series.buckets) if series else 0

    def exposition(self) -> str:
        """Return all of it in Prometheus' text format.

        Raises:
            FailedPrecondition: prometheus-client is not installed.
        """
        registry = _registry(self)
        from prometheus_client import generate_latest

        return generate_latest(registry).decode()

    def collect(self) -> Iterator[Any]:
        """Yield metric families, as a Prometheus collector does."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        durations = HistogramMetricFamily(
            "kitmsg_thrift_call_duration_seconds",
            "Time from call to answer; its count is the number of calls.",
            labels=["method", "code"],
        )
        for (method, code), series in sorted(self._series.items()):
            durations.add_metric([method, code], _cumulative(series), series.seconds)
        yield durations
        yield GaugeMetricFamily(
            "kitmsg_thrift_in_flight", "Calls being answered.", self.in_flight
        )
        yield GaugeMetricFamily(
            "kitmsg_thrift_connections", "Connections that are open.", self.connections
        )
        closed = CounterMetricFamily(
            "kitmsg_thrift_closed",
            "Connections that the gateway closed, by reason.",
            labels=["reason"],
        )
        for reason, count in sorted(self.closed.items()):
            closed.add_metric([reason], count)
        yield closed


def _registry(metrics: Metrics) -> Any:
    """Return a registry of these counters.

    Raises:
        FailedPrecondition: prometheus-client is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry
    except ImportError as exc:
        raise FailedPrecondition(
            "metrics need prometheus-client: pip install 'kitmsg[prometheus]'"
        ) from exc
    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics)
    return registry


def serve_metrics(metrics: Metrics, host: str, port: int) -> Callable[[], None]:
    """Serve the page that Prometheus reads; returns what ends that.

    Raises:
        FailedPrecondition: prometheus-client is not installed.
        OSError: The address cannot be had.
    """
    registry = _registry(metrics)
    from prometheus_client import start_http_server

    server, thread = start_http_server(port, host, registry)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop


def _cumulative(series: _Series) -> list[tuple[str, float]]:
    total = 0
    found: list[tuple[str, float]] = []
    for bound, count in zip(
        (*map(str, BOUNDS_SECONDS), "+Inf"), series.buckets, strict=True
    ):
        total += count
        found.append((bound, total))
    return found
