"""Counts and durations of requests, by route template, method and status.

Plain integers while requests run; they become Prometheus text when somebody asks
(``pip install 'kitmsg[prometheus]'``).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from kitmsg.errors import Unimplemented
from kitmsg.metrics.stats import BOUNDS_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gateways.http.listener import Connections
    from gateways.http.streams.live import Live

__all__ = ["TEXT", "Metrics"]

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"

_METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
)


class _Series:
    """The requests with one set of labels."""

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS_SECONDS) + 1)
        self.seconds = 0.0


class Metrics:
    """The gateway's counters.

    Args:
        in_flight: Returns how many requests are being answered.
        mounted: Returns how many endpoints are mounted.
        connections: Counts connections; None for those of nobody.

    Attributes:
        process: Label of the samples on ``/metrics``, where several processes answer at one
            address; "" for none.
        streams: Counts streams; None for those of nobody.
    """

    def __init__(
        self,
        in_flight: Callable[[], int],
        mounted: Callable[[], int],
        connections: Connections | None = None,
    ) -> None:
        self._in_flight = in_flight
        self._mounted = mounted
        self._connections = connections
        self.streams: Live | None = None
        self.process = ""
        self._series: dict[tuple[str, str, int], _Series] = {}
        self._rpc: Counter[int] = Counter()

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request.

        Args:
            route: Template that matched.
            method: HTTP method; unusual ones count together.
            status: HTTP status; 499 when the client went away.
            seconds: From the first look at it to the answer.
        """
        key = (route, method if method in _METHODS else "other", status)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = _Series()
        series.buckets[bisect_left(BOUNDS_SECONDS, seconds)] += 1
        series.seconds += seconds

    def count(self, route: str, method: str, status: int) -> int:
        """Return how many requests had these labels."""
        series = self._series.get((route, method, status))
        return sum(series.buckets) if series else 0

    def count_rpc(self, number: int) -> None:
        """Count one JSON-RPC call, with the code of its error or 0."""
        self._rpc[number] += 1

    def rpc_count(self, number: int) -> int:
        """Return how many JSON-RPC calls ended with this code."""
        return self._rpc[number]

    def collect(self) -> Iterator[Any]:
        """Yield metric families, as a Prometheus collector does."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        labels = ["route", "method", "status"]
        durations = HistogramMetricFamily(
            "kitmsg_http_request_duration_seconds",
            "Time from request to answer; its count is the number of requests.",
            labels=labels,
        )
        for (route, method, status), series in sorted(self._series.items()):
            durations.add_metric(
                [route, method, str(status)], _cumulative(series), series.seconds
            )
        yield durations
        calls = CounterMetricFamily(
            "kitmsg_http_rpc_calls", "JSON-RPC calls, by error code.", labels=["code"]
        )
        for number, count in sorted(self._rpc.items()):
            calls.add_metric([str(number)], count)
        yield calls
        yield GaugeMetricFamily(
            "kitmsg_http_in_flight", "Requests being answered.", self._in_flight()
        )
        yield GaugeMetricFamily(
            "kitmsg_http_endpoints", "Endpoints mounted.", self._mounted()
        )
        if self._connections is not None:
            yield from _of_connections(self._connections)
        if self.streams is not None:
            yield from self.streams.collect()

    def exposition(self, *, is_page: bool = True) -> bytes:
        """Return all of it in Prometheus' text format.

        Args:
            is_page: Whether it is what the gateway's own ``/metrics`` shows.

        Raises:
            Unimplemented: prometheus-client is not installed.
        """
        try:
            from prometheus_client import CollectorRegistry, generate_latest
        except ImportError as exc:
            raise Unimplemented(
                "/metrics needs prometheus-client: pip install 'kitmsg[prometheus]'"
            ) from exc
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Labelled(self) if is_page and self.process else self)
        return generate_latest(registry)


class _Labelled:
    """Metrics whose samples say which process they are of."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Any]:
        for family in self._metrics.collect():
            for sample in family.samples:
                sample.labels["process"] = self._metrics.process
            yield family


def _of_connections(connections: Connections) -> Iterator[Any]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    yield GaugeMetricFamily(
        "kitmsg_http_connections", "Connections that are open.", connections.open
    )
    refused = CounterMetricFamily(
        "kitmsg_http_connections_refused",
        "Connections that did not become one.",
        labels=["reason"],
    )
    refused.add_metric(["limit"], connections.refused)
    refused.add_metric(["handshake"], connections.broken)
    yield refused


def _cumulative(series: _Series) -> list[tuple[str, float]]:
    total = 0
    found: list[tuple[str, float]] = []
    for bound, count in zip(
        (*map(str, BOUNDS_SECONDS), "+Inf"), series.buckets, strict=True
    ):
        total += count
        found.append((bound, total))
    return found
