"""Metrics of the deliveries of one subscription, told endpoint or schedule.

Hot path: `begins` runs for every attempt; all it needs stands in the delivery.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kitmsg.metrics.calls import labels_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kitmsg.jetstream import Delivery
    from kitmsg.metrics.provider import Provider

__all__ = ["Measures"]

_LABELS: Final = ("service", "endpoint")
_BOUNDS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    *(30.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0, 86400.0, 604800.0),
)


class Measures:
    """Age, lag, redeliveries and dead letters.

    Args:
        metrics: Makes the instruments.
        name: Dotted name of what is given the deliveries.
        now: Returns the time by the store's clock, in unix seconds.
    """

    def __init__(self, metrics: Provider, name: str, now: Callable[[], float]) -> None:
        labels = labels_of(name)
        self._now = now
        self._age = metrics.histogram(
            "kitmsg_events_age_seconds",
            "Time from when an event was stored to an attempt at it.",
            labels=_LABELS,
            bounds=_BOUNDS,
        ).labels(**labels)
        self._lag = metrics.gauge(
            "kitmsg_events_lag",
            "Events that wait in the stream for a subscription.",
            labels=_LABELS,
        ).labels(**labels)
        self._again = metrics.counter(
            "kitmsg_events_redeliveries_total",
            "Deliveries of what was delivered before.",
            labels=_LABELS,
        ).labels(**labels)
        self._dead = metrics.counter(
            "kitmsg_events_dead_total", "Dead letters.", labels=_LABELS
        ).labels(**labels)

    def begins(self, deliveries: Sequence[Delivery]) -> None:
        """Count deliveries that an attempt begins on: one at least, the last one last."""
        now = self._now()
        pending = 0
        for delivery in deliveries:
            times, stored_at, pending = delivery.glance()
            age = now - stored_at
            self._age.observe(age if age > 0 else 0.0)  # clocks differ
            if times > 1:
                self._again.add()
        self._lag.set(pending)

    def waits(self, pending: int) -> None:
        """Note how many wait in the stream."""
        self._lag.set(pending)

    def died(self) -> None:
        """Count a dead letter."""
        self._dead.add()
