"""Finds a link that is silent although something is awaited; decisions only, no I/O.

A server that is frozen and a network that drops everything close no connection.  Where an
ask or a PONG is awaited and nothing was read for one step, a PING of ours goes out; nothing
read in two steps more is the end: 1.6 s after the silence began, at the latest.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

__all__ = ["STEP", "Pulse", "Verdict"]

STEP: Final = 0.4
"""Seconds between two checks."""

_PATIENCE: Final = 0.75  # of two steps, whose timers may fire a little early
_LATE: Final = 0.2  # then it was this process that did nothing
_BACKLOG: Final = 64 << 10


class Verdict(Enum):
    """The result of a check."""

    FINE = "fine"
    PING = "ping"
    DEAD = "dead"


class Pulse:
    """The signs of life of one link."""

    __slots__ = ("_backlog", "_due", "_pinged", "_reads")

    def __init__(self) -> None:
        # As of the last check: reads so far, bytes not yet acknowledged by the other side.
        self._reads = -1
        self._backlog = 0
        # When the next check should come; a later one judges nobody.
        self._due = 0.0
        # When our PING went out; None unless nothing was read since.
        self._pinged: float | None = None

    def check(
        self, now: float, reads: int, backlog: int, *, is_expecting: bool
    ) -> Verdict:
        """Judge the link.

        Args:
            now: The loop's time.
            reads: Chunks read from it so far.
            backlog: Bytes that the other side has not acknowledged.
            is_expecting: Whether an ask or a PONG is awaited.
        """
        is_late = now > self._due + _LATE
        # A PING stands behind much that leaves slowly, and is as slow.
        is_leaving = self._backlog > _BACKLOG and backlog < self._backlog
        is_alive = reads != self._reads or is_leaving or not is_expecting
        self._due, self._reads, self._backlog = now + STEP, reads, backlog
        if is_alive or is_late:
            self._pinged = None
            return Verdict.FINE
        if self._pinged is None:
            self._pinged = now
            return Verdict.PING
        return Verdict.DEAD if now - self._pinged >= _PATIENCE else Verdict.FINE
