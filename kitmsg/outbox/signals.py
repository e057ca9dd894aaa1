"""The relay's metrics, and its log: one line for each change of state."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kitmsg.metrics.memory import MemoryMetrics

if TYPE_CHECKING:
    from kitmsg.metrics.provider import Provider

__all__ = ["Signals"]

_log = logging.getLogger("kitmsg.outbox")


class Signals:
    """State of one relay.

    Args:
        metrics: Counts; None for nobody.

    Attributes:
        state: ``working``, ``standing by`` or ``away``; "" before and after.
    """

    def __init__(self, metrics: Provider | None) -> None:
        provider = MemoryMetrics() if metrics is None else metrics
        self.state = ""
        self._published = provider.counter(
            "kitmsg_outbox_published_total", "Events of the outbox that streams have."
        )
        self._refused = provider.counter(
            "kitmsg_outbox_refused_total", "Attempts that a stream refused."
        )
        self._failures = provider.counter(
            "kitmsg_outbox_failures_total",
            "Times that the database or the bus was away.",
        )
        self._pending = provider.gauge(
            "kitmsg_outbox_pending", "Committed events that wait for the relay."
        )
        self._lag = provider.gauge(
            "kitmsg_outbox_lag_seconds", "Age of the oldest event that waits."
        )
        self._active = provider.gauge(
            "kitmsg_outbox_active", "1 where the relay works, 0 where it stands by."
        )

    def works(self) -> None:
        """Note that a pass succeeded."""
        if self._becomes("working"):
            self._active.set(1)
            _log.info("the outbox's relay works here")

    def stands_by(self) -> None:
        """Note that another relay works."""
        if self._becomes("standing by"):
            self._idle()
            _log.info("the outbox's relay stands by: another one works")

    def lost(self, error: Exception) -> None:
        """Note that the database or the bus is away."""
        self._failures.add()
        if self._becomes("away"):
            self._idle()
            first = str(error).partition("\n")[0]
            hint = (
                "; `kitmsg outbox tables URL` makes the tables"
                if "kit_outbox" in first
                else ""
            )
            _log.warning(
                "the outbox's relay waits and tries again: %s: %s%s",
                type(error).__name__,
                first,
                hint,
            )

    def ended(self) -> None:
        """Note that the relay does not run."""
        if self._becomes(""):
            self._idle()

    def published(self, count: int) -> None:
        """Count events that are stored."""
        if count:
            self._published.add(count)

    def refused(self) -> None:
        """Count an attempt that a stream refused."""
        self._refused.add()

    def waiting(self, count: int, seconds: float) -> None:
        """Note how many events wait, and since when the oldest does."""
        self._pending.set(count)
        self._lag.set(seconds)

    def _idle(self) -> None:
        # The one that works tells of the table: a sum over relays is right.
        self._active.set(0)
        self._pending.set(0)
        self._lag.set(0)

    def _becomes(self, state: str) -> bool:
        is_new, self.state = self.state != state, state
        return is_new
