"""Overload of a process: a backlog that stays, of turns that wait for the processor alone.

BBR's bound as Kratos and go-zero have it: as many turns may wait as the best rate of late
does in 50 ms, or as run at once, if that is more.  The signal is not the machine's CPU,
which says little about one process with one loop, but turns that wait though there are
places for them, or a loop that is late again and again.  Turns that wait for others which
merely sleep are none.
"""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["Pace"]

_LONG: Final = 0.25  # seconds of work; a shorter backlog is no overload
_LATE: Final = 0.02  # seconds that a tick comes late where the loop has too much to do
_PRESSED_TICKS: Final = (
    3  # in a row, so that one burst or one long pause is no overload
)
_CALM_TICKS: Final = 20  # in a row, before the mailbox has its full size again
_MOST_WAIT: Final = (
    0.05  # seconds of work that may wait while the process is overloaded
)
_RATES: Final = 100  # ticks that the best rate is taken over


class Pace:
    """Rate of turns, and whether more come than that.  No clock, no I/O.

    Args:
        step: Seconds between two ticks.
        least: Turns that may wait in any case: as many callers do no harm.

    Attributes:
        is_overloaded: Whether few turns may wait.
        longest: Turns that may wait before it is an overload.
    """

    __slots__ = (
        "_backlog",
        "_calm",
        "_done",
        "_due",
        "_least",
        "_pressed",
        "_rates",
        "_seen_at",
        "_step",
        "_turned_away",
        "is_overloaded",
        "longest",
    )

    def __init__(self, step: float, least: int = 16) -> None:
        self._step, self._least = step, least
        self._rates: deque[float] = deque((0.0,), maxlen=_RATES)  # turns a second
        # Of the tick before, or of `begin`.
        self._seen_at = self._due = 0.0
        self._done = self._backlog = self._turned_away = 0
        # Ticks in a row that were pressed, and that were not; one is 0.
        self._pressed = self._calm = 0
        self.is_overloaded = False
        self.longest = least

    def begin(self, now: float, done: int) -> None:
        """Take the time and the turns done at the ticker's start."""
        self._seen_at, self._due, self._done = now, now + self._step, done
        self._backlog = 0
        self._pressed = self._calm = 0

    def tick(
        self,
        now: float,
        done: int,
        *,
        waiting: int,
        turned_away: int,
        is_full: bool,
        is_away: bool,
    ) -> int | None:
        """Return how many turns may wait; None while the process keeps up.

        Args:
            now: Time, in seconds.
            done: Turns done so far.
            waiting: Turns that wait.
            turned_away: How often turns were refused or sent to others so far: while that
                grows the overload goes on.
            is_full: Whether turns wait because as many run as may.
            is_away: Whether turns are sent to others now.
        """
        late, past = now - self._due, now - self._seen_at
        came = done - self._done + waiting - self._backlog
        is_growing = came >= done - self._done or turned_away != self._turned_away
        if past > 0:
            self._rates.append((done - self._done) / past)
        best = max(self._rates)
        self.longest = self._least + round(_LONG * best)
        is_long = waiting > self.longest
        if is_long and is_growing and (not is_full or late > _LATE):
            self._pressed, self._calm = self._pressed + 1, 0
        else:
            self._pressed = 0
            is_calm = not is_away and turned_away == self._turned_away
            self._calm = self._calm + 1 if is_calm else 0
        self._seen_at, self._due, self._done = now, now + self._step, done
        self._backlog, self._turned_away = waiting, turned_away
        if self._pressed >= _PRESSED_TICKS:
            self.is_overloaded = True
        elif self._calm >= _CALM_TICKS:
            self.is_overloaded = False
        return (
            max(self._least, round(best * _MOST_WAIT)) if self.is_overloaded else None
        )
