"""Counts and durations of calls, by method and status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kitmsg_gateways.metrics import Durations

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Metrics"]


class Metrics:
    """The gateway's counters.

    Attributes:
        in_flight: Calls being answered, streams included.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self._durations = Durations(
            "kitmsg_grpc_call_duration_seconds",
            "Time from call to status; its count is the number of calls.",
            ["method", "code"],
        )

    def observe(self, method: str, code: str, seconds: float) -> None:
        """Count one call.

        Args:
            method: ``/package.Service/Method``, or `UNKNOWN_METHOD`.
            code: ``ok``, or the name of the failure's code.
            seconds: From the first look at it to the answer.
        """
        self._durations.observe(seconds, method, code)

    def count(self, method: str, code: str) -> int:
        """Return how many calls ended so."""
        return self._durations.count(method, code)

    def collect(self) -> Iterator[Any]:
        """Yield metric families, as a Prometheus collector does."""
        from prometheus_client.core import GaugeMetricFamily

        yield from self._durations.collect()
        yield GaugeMetricFamily(
            "kitmsg_grpc_in_flight", "Calls being answered.", self.in_flight
        )
