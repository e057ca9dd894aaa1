"""Calls that this process makes on the bus: ``kitmsg_client_...``, counted by every client.

An attempt is a call: what a retry or a hedge sends counts too.  One object for the process,
because clients are made wherever a service needs them; its pages and push loops show it.

Hot path: `kitmsg.transport.caller` counts a call that ends well itself, in `CallCounts.well`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kitmsg.metrics.calls import MOST_SERIES, OTHER, Series, labels_of
from kitmsg.metrics.families import PROCESS, counter, gauge, histogram

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kitmsg.metrics.families import Family

__all__ = ["CLIENTS", "CallCounts", "ClientCounts"]


class CallCounts:
    """The calls of one endpoint.

    Attributes:
        begun: How many calls began.
        well: Those that ended well.
        failed: Those that failed, by code.
    """

    __slots__ = ("begun", "failed", "well")

    def __init__(self) -> None:
        self.begun = 0
        self.well = Series()
        self.failed: dict[str, Series] = {}

    def ended(self, code: str, seconds: float) -> None:
        """Count a call that began, and ended with `code` after `seconds`."""
        series = self.well
        if code != "ok":
            series = self.failed.get(code) or self.failed.setdefault(code, Series())
        series.observe(seconds)

    @property
    def in_flight(self) -> int:
        """Calls that have begun and not ended."""
        failed = sum(series.count for series in self.failed.values())
        return self.begun - self.well.count - failed

    def count(self, code: str) -> int:
        """Return how many calls ended so; for ``ok`` well."""
        if code == "ok":
            return self.well.count
        return self.failed[code].count if code in self.failed else 0


class ClientCounts:
    """The calls of all clients, by endpoint."""

    def __init__(self) -> None:
        self._counts: dict[str, CallCounts] = {}

    def of(self, name: str) -> CallCounts:
        """Return the counts of an endpoint, one object for all its clients.

        Past 5,000 names, those of ``other``: a name may come from a request.
        """
        if name not in self._counts and len(self._counts) >= MOST_SERIES:
            name = OTHER
        return self._counts.setdefault(name, CallCounts())

    def collect(self) -> Iterator[Family]:
        """Yield the families; none where no call was made."""
        shown = {
            n: counts for n, counts in sorted(self._counts.items()) if counts.begun
        }
        if not shown:
            return
        requests = counter("kitmsg_client_requests_total", "Calls that ended.")
        times = histogram("kitmsg_client_duration_seconds", "Time from call to answer.")
        running = gauge("kitmsg_client_in_flight", "Calls that run now.")
        for name, counts in shown.items():
            labels = labels_of(name)
            running.add(counts.in_flight, **labels)
            for code, series in (("ok", counts.well), *sorted(counts.failed.items())):
                requests.add(series.count, **labels, code=code)
                times.distributions.append(
                    series.distribution({**labels, "code": code})
                )
        yield from (requests, times, running)


CLIENTS: Final = ClientCounts()
"""The process's."""

PROCESS.register(CLIENTS.collect)
