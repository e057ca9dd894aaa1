"""Counts of what resilience middlewares did: refusals, circuits, second tries.

One object for the process, because a middleware is made before anything that could hand
it one; the pages of workers and gateways show it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kitmsg.metrics.families import PROCESS, counter, gauge
from kitmsg.tracing import event

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kitmsg.metrics.families import Family

__all__ = ["RESILIENCE", "Resilience"]

_MOST: Final = 2_000  # series of a family; what comes after is counted as `other`


class Resilience:
    """The counts; labels are a middleware's name and an endpoint's."""

    def __init__(self) -> None:
        self._refused: dict[tuple[str, str], int] = {}
        self._opened: dict[tuple[str, str], int] = {}
        self._state: dict[tuple[str, str], int] = {}
        self._done: dict[tuple[str, str], int] = {}
        self._fell_back: dict[tuple[str, str], int] = {}

    def refused(self, part: str, endpoint: str) -> None:
        """Count a call that `part` refused; an event of its span."""
        event("refused", by=part)
        _add(self._refused, part, endpoint)

    def opened(self, part: str, endpoint: str) -> None:
        """Count a circuit that opened."""
        _add(self._opened, part, endpoint)

    def circuit(self, part: str, endpoint: str, state: int) -> None:
        """Keep the state of a circuit: 0 closed, 1 half-open, 2 open."""
        if (part, endpoint) in self._state or len(self._state) < _MOST:
            self._state[part, endpoint] = int(state)

    def done(self, part: str, endpoint: str) -> None:
        """Count what `part` did instead of a plain call: a hedge, a hit, a fallback.

        An event of the call's span, too.
        """
        event(part)
        _add(self._done, part, endpoint)

    def fell_back(self, part: str, endpoint: str) -> None:
        """Count a call that the route `part` left to the queue group; an event, too."""
        event("route.fallback", by=part)
        _add(self._fell_back, part, endpoint)

    def count(self, part: str, endpoint: str) -> int:
        """Return how many calls `part` refused."""
        return self._refused.get((part, endpoint), 0)

    def collect(self) -> Iterable[Family]:
        """Yield the families that have samples."""
        for family, counts in (
            (
                counter("kitmsg_refusals_total", "Calls that a middleware refused."),
                self._refused,
            ),
            (
                counter("kitmsg_circuit_opened_total", "Circuits that opened."),
                self._opened,
            ),
            (
                gauge("kitmsg_circuit_state", "0 closed, 1 half-open, 2 open."),
                self._state,
            ),
            (
                counter(
                    "kitmsg_middleware_actions_total", "Hedges, cache hits, fallbacks."
                ),
                self._done,
            ),
            (
                counter(
                    "kitmsg_route_fallbacks_total",
                    "Calls of a route that went to the queue group.",
                ),
                self._fell_back,
            ),
        ):
            for (part, endpoint), value in sorted(counts.items()):
                family.add(value, part=part, endpoint=endpoint)
            if family.samples:
                yield family


def _add(counts: dict[tuple[str, str], int], part: str, endpoint: str) -> None:
    key = (part, endpoint)
    if key not in counts and len(counts) >= _MOST:
        key = (part, "other")
    counts[key] = counts.get(key, 0) + 1


RESILIENCE: Final = Resilience()
"""The process's."""

PROCESS.register(RESILIENCE.collect)
