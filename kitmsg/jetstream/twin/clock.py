"""Time of the twin: unix seconds that go with the event loop's clock, and alarms on it."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Alarm", "Clock"]

_EARLY: Final = 1e-5  # seconds that a timer may ring early: what a float may not show


class Clock:
    """Unix time that begins as this machine has it and goes with the event loop's."""

    def __init__(self) -> None:
        self._offset: float | None = None

    def now(self) -> float:
        """Return the time, in unix seconds and whole microseconds, as texts have it.

        Needs a running event loop.
        """
        ticks = asyncio.get_running_loop().time()
        if self._offset is None:
            self._offset = time.time() - ticks
        return round(self._offset + ticks, 6)

    def call_at(self, when: float, ring: Callable[[], None]) -> asyncio.TimerHandle:
        """Call `ring` at a time, or at once where it is over."""
        loop = asyncio.get_running_loop()
        return loop.call_later(max(when - self.now(), 0.0), ring)


class Alarm:
    """One timer, set to the earliest of the times it was told.

    Args:
        clock: The twin's.
        ring: Called when it is time, with the time; it says itself when the next one is.
    """

    def __init__(self, clock: Clock, ring: Callable[[float], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._at: float | None = None
        self._handle: asyncio.TimerHandle | None = None

    def by(self, when: float) -> None:
        """Ring at `when`, or before; at infinity never."""
        if when == math.inf:
            return
        if self._at is None or when < self._at:
            self.stop()
            self._at = when
            self._handle = self._clock.call_at(when, self._rung)

    def stop(self) -> None:
        """Do not ring."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle = self._at = None

    def _rung(self) -> None:
        at, now = self._at, self._clock.now()
        if at is None:
            return
        if now < at - _EARLY:
            self._handle = self._clock.call_at(at, self._rung)
            return
        self._handle = self._at = None
        self._ring(max(now, at))
