"""Counts of the last seconds: a ring of buckets of equal length.  No clock, no I/O.

Breakers and load shedding judge by it.  The sums are kept, so that reading them costs
nothing while time stands in one bucket.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Rolling"]


class Rolling:
    """Successes, failures and refusals of the last `seconds`.

    Args:
        seconds: Length of the window; more than zero.
        buckets: Parts it moves by; at least 1.

    Attributes:
        successes: Those within the window.
        failures: Those within the window.
        refusals: Those within the window: calls that were not made.
    """

    __slots__ = (
        "_bad",
        "_good",
        "_not",
        "_now",
        "_size",
        "_step",
        "failures",
        "refusals",
        "successes",
    )

    def __init__(self, seconds: float, buckets: int = 10) -> None:
        self._step: Final = seconds / buckets
        self._size: Final = buckets
        # One number a bucket; bucket `n` of all time is at `n % size`.
        self._good = [0] * buckets
        self._bad = [0] * buckets
        self._not = [0] * buckets
        self._now = (
            0  # the bucket of the last look; those after it are of the last round
        )
        # Invariant: the sums of the three lists.
        self.successes = 0
        self.failures = 0
        self.refusals = 0

    @property
    def total(self) -> int:
        """All that were counted."""
        return self.successes + self.failures + self.refusals

    def move(self, now: float) -> int:
        """Forget what is older than the window; return the place of the bucket of `now`."""
        bucket = int(now / self._step)
        if bucket != self._now:
            for old in range(max(self._now, bucket - self._size) + 1, bucket + 1):
                place = old % self._size
                self.successes -= self._good[place]
                self.failures -= self._bad[place]
                self.refusals -= self._not[place]
                self._good[place] = self._bad[place] = self._not[place] = 0
            self._now = bucket
        return bucket % self._size

    def succeeded(self, now: float) -> None:
        """Count a success."""
        self._good[self.move(now)] += 1
        self.successes += 1

    def failed(self, now: float) -> None:
        """Count a failure."""
        self._bad[self.move(now)] += 1
        self.failures += 1

    def refused(self, now: float) -> None:
        """Count a call that was not made."""
        self._not[self.move(now)] += 1
        self.refusals += 1

    def spread(self, successes: int, since: float, now: float) -> None:
        """Count successes that came evenly from `since` on; those too old are left out."""
        last = int(now / self._step)
        self.move(now)
        first = max(int(since / self._step), last - self._size + 1)
        wide = max(now - since, self._step) / self._step  # buckets that they came in
        share = round(successes / max(wide, last - first + 1))
        for bucket in range(first, last + 1):
            self._good[bucket % self._size] += share
            self.successes += share

    def clear(self) -> None:
        """Forget everything."""
        self._good = [0] * self._size
        self._bad = [0] * self._size
        self._not = [0] * self._size
        self.successes = self.failures = self.refusals = 0

    def streaks(self) -> tuple[int, int]:
        """Return how many of the newest buckets had only successes, and only failures.

        Buckets in which no call was made are passed over.
        """
        working = failing = 0
        for back in range(self._size):
            place = (self._now - back) % self._size
            good, bad = self._good[place], self._bad[place]
            if (good and bad) or (good and failing) or (bad and working):
                break
            working += bool(good)
            failing += bool(bad)
        return working, failing
