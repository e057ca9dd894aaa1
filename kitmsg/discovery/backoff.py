"""Exponential back-off with jitter, for the watches and renewals of discovery."""

from __future__ import annotations

import random
from typing import Final

__all__ = ["Backoff"]

_MAX_DOUBLINGS: Final = 30  # far over any cap; keeps the power a small number
_WELL_SECONDS: Final = 5.0  # a system that answered for so long is not flapping


class Backoff:
    """Waits that double, with jitter, until something lasted.

    Args:
        first: Ceiling of the first wait, in seconds.
        cap: Ceiling of every wait, in seconds.
    """

    def __init__(self, *, first: float = 0.1, cap: float = 30.0) -> None:
        self._first = first
        self._cap = cap
        self._failures = 0

    def next(self, lasted: float = 0.0) -> float:
        """Return the seconds to wait after a failure, at least half of the ceiling.

        Args:
            lasted: Seconds that all was well before it.  After more than the wait, or 5 s,
                the waits begin anew; a system that answers and fails at once is asked
                more and more seldom.
        """
        if lasted > min(self._ceiling(), _WELL_SECONDS):
            self._failures = 0
        ceiling = self._ceiling()
        self._failures += 1
        return ceiling * random.uniform(0.5, 1.0)  # noqa: S311  spreads load

    def _ceiling(self) -> float:
        return min(self._cap, self._first * 2.0 ** min(self._failures, _MAX_DOUBLINGS))
