"""Delay of a request on its way, by a stopped process, a server or a network.

``Kit-Timeout`` counts from when it is read, so what was held would begin after its caller
gave up.  A caller's clock stands in the reply subjects that kitmsg makes: the number after
the last dot is milliseconds of that clock.  Clocks need not agree: as in NTP's clock filter
(RFC 5905, section 10), the least difference between both that was seen lately is taken for
the offset and the delay of a free way, and what is over it for a hold.

It is not known of callers in other languages.  Of a caller's first requests it is known
only from those behind them, so they are judged again when their turn begins: what piled up
before a new worker is read at once, and the newest of it tells how old the rest is.

Hot path: a caller's clock is the same in all it sends within 5 ms, so it is read and judged
once, and looked up for the rest.
"""

from __future__ import annotations

from typing import Final

from kitmsg.wire import INBOX_MARK, SECRET_CHARS

__all__ = ["NOISE", "Lateness"]

NOISE: Final = 0.05  # seconds that a loop and a network may take without being late
_WINDOW: Final = 30.0  # seconds; the least of this window and the one before counts
_MOST: Final = 4096  # callers, and moments of theirs


class _Way:
    """Clock filter of one caller: offset and least delay."""

    __slots__ = ("before", "least", "since")

    def __init__(self, difference: float, now: float) -> None:
        # Least difference between both clocks, in seconds, in this window and in the one
        # before; `before` is kept until another window is over.
        self.least = self.before = difference
        self.since = now

    def late(self, difference: float, now: float) -> float:
        """Note a difference; return how much it is over the least."""
        if now - self.since > _WINDOW:
            self.before, self.least, self.since = self.least, difference, now
        elif difference < self.least:
            self.least = difference
        return difference - min(self.least, self.before)


class Lateness:
    """The holds on the ways from all callers of one service.

    Attributes:
        learned: When a caller was first heard; its next requests may tell more of this one.
        arrivals: When requests come that nothing holds, by their reply subject without its
            random part.  One that comes then, or at most `NOISE` later, is not late.
    """

    __slots__ = ("_ways", "arrivals", "learned")

    def __init__(self) -> None:
        self.learned = -_WINDOW
        # Of callers that are known well, and never too early: emptied when a quicker way is
        # seen.
        self.arrivals: dict[str, float] = {}
        # By the reply subject up to its last dot; None for callers that stamp nothing.
        self._ways: dict[str, _Way | None] = {}

    def of(self, reply: str, now: float) -> float:
        """Return the seconds that a request was held; 0.0 where it was not, or unknown.

        Args:
            reply: Where its answer goes.
            now: When it was read, on the event loop's clock.
        """
        head = reply[:-SECRET_CHARS]
        inbox, _, stamp = head.rpartition(".")
        way, digits = self._ways.get(inbox, self), stamp[:-1]
        if way is None or not digits.isdecimal() or stamp[-1] != "-":
            return 0.0
        difference = now - int(digits) / 1000
        if isinstance(way, _Way):
            return self._over(way, difference, now, head)
        if len(self._ways) >= _MOST:
            self._ways.clear()
        is_stamped = inbox.rpartition(".")[2].startswith(INBOX_MARK)
        self._ways[inbox] = _Way(difference, now) if is_stamped else None
        if is_stamped:
            self.learned = now
        return 0.0

    def _over(self, way: _Way, difference: float, now: float, head: str) -> float:
        """Return the time over that of the free way, unless it is noise."""
        if difference < way.least or len(self.arrivals) >= _MOST:
            self.arrivals.clear()
        late = way.late(difference, now)
        if late > NOISE:
            return late
        if now - self.learned > NOISE:
            self.arrivals[head] = now - late
        return 0.0
