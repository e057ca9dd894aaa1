"""Counts and durations of calls, by endpoint and code; connections, and why they ended."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from kitmsg_gateways.metrics import Durations

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Metrics"]


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
        self._durations = Durations(
            "kitmsg_thrift_call_duration_seconds",
            "Time from call to answer; its count is the number of calls.",
            ["method", "code"],
        )

    def observe(self, method: str, code: str, seconds: float) -> None:
        """Count one call.

        Args:
            method: ``service.endpoint``, or `UNKNOWN_METHOD`.
            code: ``ok``, or the name of the failure's code.
            seconds: From the first look at it to the answer.
        """
        self._durations.observe(seconds, method, code)

    def count(self, method: str, code: str) -> int:
        """Return how many calls ended so."""
        return self._durations.count(method, code)

    def collect(self) -> Iterator[Any]:
        """Yield metric families, as a Prometheus collector does."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        yield from self._durations.collect()
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
