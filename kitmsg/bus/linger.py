"""Adaptive coalescing: how many commands one write waits for, where they come slowly.

A gateway for gRPC brings one ask every few hundred microseconds, each in a turn of the loop
of its own, and most after the reply to the one before.  Written one by one, each wakes the
server and the service, which cost as much as the gateway itself: 215 us of CPU a call, and
75 us when seven leave in one write.  Neither the turns of the loop nor the asks that are
awaited tell that more are on their way; only waiting does.  So waiting is tried, and its
result is remembered.

Pure decisions, no I/O: clocks are given, `Outbox` has the timer.
"""

from __future__ import annotations

from time import perf_counter, process_time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Linger"]

_WINDOW_SECONDS: Final = 0.02
_LEAST_SHARE: Final = 0.5  # of a core; below it nothing queues, and nothing may wait
_LEAST_COST: Final = 100e-6  # of CPU for a command; cheaper ones come together anyway
_FEWEST: Final = 4  # what a wait must bring to be worth it
_MOST: Final = 16
_MISSES: Final = 2
_FIRST_PAUSE: Final = 4
_LAST_PAUSE: Final = 1024


class Linger:
    """Learns for how many commands it is worth to wait.

    Args:
        clock: Seconds that pass.
        cpu: Seconds of CPU that this process has used.

    Attributes:
        target: Commands that end a wait; 1 for no wait.
        is_worth: Whether the last window was busy, with commands that cost much; while it
            is not, notes are for nothing and `measure` may be called rarely.
    """

    __slots__ = (
        "_clock",
        "_cpu",
        "_hits",
        "_learned",
        "_misses",
        "_pause",
        "_started",
        "_used",
        "is_worth",
        "target",
    )

    def __init__(
        self,
        clock: Callable[[], float] = perf_counter,
        cpu: Callable[[], float] = process_time,
    ) -> None:
        self._clock = clock
        self._cpu = cpu
        # The window that is measured began at `_started`, when `_used` was spent.
        self._started = clock()
        self._used = cpu()
        # Only then is `target` more than 1.  `_learned` outlives the windows that were not.
        self.is_worth = False
        self.target = 1
        # `_learned` is 1, or `_FEWEST` to `_MOST`.  It grows after `_pause` hits without a
        # miss between, and falls after `_MISSES` misses without a hit between, or after the
        # first one of a larger number than was ever reached.  Each fall doubles `_pause`:
        # a lone caller of a busy process waits in one of 1024 calls.
        self._learned = 1
        self._pause = _FIRST_PAUSE
        self._hits = self._misses = 0

    def measure(self, count: int) -> bool:
        """Look at the last window, in which `count` commands were sent, if it is over.

        Returns:
            Whether it was: then a new one has begun.
        """
        passed = self._clock() - self._started
        if passed < _WINDOW_SECONDS:
            return False
        used = self._cpu() - self._used
        self._started += passed
        self._used += used
        self.is_worth = used >= passed * _LEAST_SHARE and used >= count * _LEAST_COST
        self._aim()
        return True

    def hit(self) -> None:
        """Note that as many commands came as were waited for."""
        if not self.is_worth:
            return
        self._hits += 1
        if self._misses < 0:
            self._pause = _FIRST_PAUSE
        self._misses = 0
        if self._hits >= self._pause:
            self._learned = min(_MOST, max(_FEWEST, self._learned + 1))
            self._hits = 0
            self._misses = -1
            self._aim()

    def miss(self) -> None:
        """Note that they did not."""
        is_new, self._misses = self._misses < 0, max(0, self._misses) + 1
        if self._misses < _MISSES and not is_new:
            return
        self._hits = self._misses = 0
        self._pause = min(_LAST_PAUSE, self._pause << 1)
        self._learned = self._learned - 1 if self._learned > _FEWEST else 1
        self._aim()

    def _aim(self) -> None:
        self.target = self._learned if self.is_worth else 1
