"""Overload of a process: an event loop that is late again and again, and its best rate.

BBR's bound as Kratos and go-zero have it, with the loop's lag for a signal instead of the
machine's CPU, which says little about one process with one loop.
"""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["Pace"]

_LATE: Final = 0.05  # seconds that a tick comes late when the process is overloaded
_LATE_TICKS: Final = 5  # in a row, so that one long pause is no overload
_LATER_TICKS: Final = 3  # in a row, if they were late by so many seconds together
_LATER: Final = 0.5
_CALM_TICKS: Final = 20  # in a row, before the mailbox has its full size again
_MOST_WAIT: Final = 0.05  # seconds that turns may wait while the process is overloaded
_LEAST_SIZE: Final = 16  # turns that may wait even then
_RATES: Final = 100  # ticks that the best rate is taken over


class Pace:
    """Rate of turns and lateness of ticks.  No clock, no I/O.

    Args:
        step: Seconds between two ticks.

    Attributes:
        is_idle: Whether no turn was done between the last two ticks.
    """

    __slots__ = (
        "_calm",
        "_done",
        "_due",
        "_is_late",
        "_late",
        "_lost",
        "_rates",
        "_refused",
        "_seen_at",
        "_step",
        "is_idle",
    )

    def __init__(self, step: float) -> None:
        self._step = step
        self._rates: deque[float] = deque((0.0,), maxlen=_RATES)  # turns a second
        # Of the tick before, or of `begin`.
        self._seen_at = self._due = 0.0
        self._done = 0
        # Ticks in a row that were late, and that were not and without refusals; one is 0.
        self._late = self._calm = 0
        self._lost = 0.0  # seconds that the late ones in a row were late
        self._is_late = False
        self._refused = 0
        self.is_idle = True

    def begin(self, now: float, done: int) -> None:
        """Take the time and the turns done at the ticker's start."""
        self._seen_at, self._due, self._done = now, now + self._step, done
        self._late = self._calm = 0
        self._lost = 0.0
        self._is_late = False

    def tick(self, now: float, done: int, refused: int = 0) -> int | None:
        """Return how many turns may wait; None while the process keeps up.

        Args:
            now: Time, in seconds.
            done: Turns done so far.
            refused: Turns refused so far: while there are more, the overload goes on, for
                it is the refusals that keep the loop in time.
        """
        self.is_idle = done == self._done
        late = now - self._due
        if late > _LATE:
            self._late, self._calm = self._late + 1, 0
            self._lost += late
        else:
            self._late = 0
            self._calm = self._calm + 1 if refused == self._refused else 0
            self._lost = 0.0
        self._refused = refused
        if self._late >= (_LATER_TICKS if self._lost >= _LATER else _LATE_TICKS):
            self._is_late = True
        elif self._calm >= _CALM_TICKS or self.is_idle:
            self._is_late = False
        if now > self._seen_at:
            self._rates.append((done - self._done) / (now - self._seen_at))
        self._seen_at, self._due, self._done = now, now + self._step, done
        if not self._is_late:
            return None
        return max(_LEAST_SIZE, round(max(self._rates) * _MOST_WAIT))
