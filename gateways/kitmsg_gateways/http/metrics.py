"""Counts and durations of requests, by route template, method and status."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from kitmsg.errors import FailedPrecondition, Unimplemented
from kitmsg_gateways.metrics import Durations, exposition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kitmsg_gateways.http.listener import Connections
    from kitmsg_gateways.http.streams.live import Live

__all__ = ["TEXT", "Metrics"]

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"

_METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
)


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
        self._durations = Durations(
            "kitmsg_http_request_duration_seconds",
            "Time from request to answer; its count is the number of requests.",
            ["route", "method", "status"],
        )
        self._rpc: Counter[int] = Counter()

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request.

        Args:
            route: Template that matched.
            method: HTTP method; unusual ones count together.
            status: HTTP status; 499 when the client went away.
            seconds: From the first look at it to the answer.
        """
        shown = method if method in _METHODS else "other"
        self._durations.observe(seconds, route, shown, str(status))

    def count(self, route: str, method: str, status: int) -> int:
        """Return how many requests had these labels."""
        return self._durations.count(route, method, str(status))

    def count_rpc(self, number: int) -> None:
        """Count one JSON-RPC call, with the code of its error or 0."""
        self._rpc[number] += 1

    def rpc_count(self, number: int) -> int:
        """Return how many JSON-RPC calls ended with this code."""
        return self._rpc[number]

    def collect(self) -> Iterator[Any]:
        """Yield metric families, as a Prometheus collector does."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        yield from self._durations.collect()
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
            return exposition(_Labelled(self) if is_page and self.process else self)
        except FailedPrecondition as exc:
            raise Unimplemented(f"/{exc}") from exc


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
