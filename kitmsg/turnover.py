"""Turnover of places: the time until one of several comes free.  No clock, no I/O."""

from __future__ import annotations

from typing import Final

__all__ = ["Turnover"]

_UNKNOWN: Final = 0.1  # seconds, before any call has ended
_LEAST: Final = 0.001
_NEWEST: Final = 0.2  # weight of the latest duration in their moving average


class Turnover:
    """Durations of the calls that a number of places had lately.

    Args:
        places: Calls that may run at once; at least 1.
    """

    __slots__ = ("_places", "_seconds")

    def __init__(self, places: int) -> None:
        self._places = places
        self._seconds = 0.0  # moving average; 0 before any call has ended

    def took(self, seconds: float) -> None:
        """Count a call that ended."""
        if self._seconds:
            self._seconds += (seconds - self._seconds) * _NEWEST
        else:
            self._seconds = max(seconds, _LEAST)

    def wait(self, ahead: int = 0) -> float:
        """Return the seconds until there is a place, after `ahead` others had theirs."""
        seconds = self._seconds or _UNKNOWN
        return max(_LEAST, seconds * (ahead + 1) / self._places)
