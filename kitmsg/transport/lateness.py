"""Delay of a request on its way, by a stopped process, a server or a network.

``Kit-Timeout`` counts from when it is read, so what was held would begin after its caller
gave up.  A caller's clock stands in the reply subjects that kitmsg makes: the number after
the last dot is milliseconds of that clock.  Clocks need not agree: as in NTP's clock filter
(RFC 5905, section 10), the least difference between both that was seen lately is taken for
the offset and the delay of a free way, and what is over it for a hold.

Of a caller's first requests it is known only from those behind them, so they are judged
again when their turn begins: what piled up before a new worker is read at once, and the
newest of it tells how old the rest is.  Where this process stood still, all that it reads then
of a new caller, and of callers in other languages, is taken for as old as it can be.

Hot path: a caller's clock is the same in all it sends within 5 ms, so it is read and judged
once, and looked up for the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kitmsg.wire import INBOX_MARK, SECRET_CHARS, STREAM_INBOX

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["NOISE", "Lateness"]

NOISE: Final = 0.05  # seconds that a loop and a network may take without being late
_WINDOW: Final = 30.0  # seconds; the least of this window and the one before counts
_MOST: Final = 4096  # callers, and moments of theirs


class _Way:
    """Clock filter of one caller: offset and least delay."""

    __slots__ = ("before", "doubt", "least", "since")

    def __init__(self, difference: float, now: float, *, is_doubtful: bool) -> None:
        # Least difference between both clocks, in seconds, in this window and in the one
        # before; `before` is kept until another window is over.
        self.least = self.before = difference
        self.since = now
        # When the last request was read of those that came while this process stood still,
        # and none before: then the least difference has a hold in it.  None otherwise.
        self.doubt = now if is_doubtful else None

    def late(self, difference: float, now: float) -> float:
        """Note a difference; return how much it is over the least."""
        if now - self.since > _WINDOW:
            self.before, self.least, self.since = self.least, difference, now
        elif difference < self.least:
            self.least = difference
        return difference - min(self.least, self.before)


class Lateness:
    """The holds on the ways from all callers of one service.

    Args:
        stood: Longest time that what is read now may have lain here; see `Bus.stood`.

    Attributes:
        is_guess: Whether the last hold that was returned is the longest that it can have
            been, and not the one that was.
        learned: When a caller was first heard; its next requests may tell more of this one.
        arrivals: When requests come that nothing holds, by their reply subject without its
            random part.  One that comes then, or at most `NOISE` later, is not late.
    """

    __slots__ = ("_stood", "_ways", "arrivals", "is_guess", "learned")

    def __init__(self, stood: Callable[[float], float] = lambda _: 0.0) -> None:
        self.learned = -_WINDOW
        self.is_guess = False
        self._stood = stood
        # Of callers that are known well, and never too early: emptied when a quicker way is
        # seen.
        self.arrivals: dict[str, float] = {}
        # By the reply subject up to its last dot; None for callers that stamp nothing.  The
        # inboxes of a caller's asks and of its streams share one.
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
            return self._guess(now)
        difference = now - int(digits) / 1000
        if not isinstance(way, _Way):
            known = self._meet(inbox, difference, now)
            if known is None:
                return self._guess(now)
            way = known
        return self._over(way, difference, now, head)

    def _meet(self, inbox: str, difference: float, now: float) -> _Way | None:
        """Begin to hear an inbox; return the way of its caller, if that is known."""
        if len(self._ways) >= _MOST:
            self._ways.clear()
        base = inbox.removesuffix(STREAM_INBOX)
        is_stamped = base.rpartition(".")[2].startswith(INBOX_MARK)
        known = self._ways.get(base) if is_stamped else None
        if is_stamped and known is None:
            is_doubtful = self._stood(now) > 0.0
            self._ways[base] = _Way(difference, now, is_doubtful=is_doubtful)
            self.learned = now
        self._ways[inbox] = self._ways.get(base) if is_stamped else None
        return known

    def _guess(self, now: float) -> float:
        """Return the longest time that a request may have lain here."""
        self.is_guess = True
        return self._stood(now)

    def _over(self, way: _Way, difference: float, now: float, head: str) -> float:
        """Return the time over that of the free way, unless it is noise."""
        if difference < way.least or len(self.arrivals) >= _MOST:
            self.arrivals.clear()
        late = way.late(difference, now)
        if way.doubt is not None:
            stood = self._stood(now)
            if stood > late:
                way.doubt = now
                self.is_guess = True
                return stood
            if now - way.doubt > NOISE:
                way.doubt = None
        if late > NOISE:
            self.is_guess = False
            return late
        if now - self.learned > NOISE:
            self.arrivals[head] = now - late
        return 0.0
