"""Statistics of one endpoint: counts, times, callers.  Updated on every turn.

Hot path: plain integers, one list index per observation, no locks (one event loop owns
each object).  Backends read it when somebody asks; nothing is sent from here.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from kitmsg.metrics.exemplars import trace_of
from kitmsg.metrics.families import Exemplar

if TYPE_CHECKING:
    from kitmsg.message import Message

__all__ = [
    "BOUNDS_NS",
    "BOUNDS_SECONDS",
    "EndpointStats",
    "Outcome",
    "Snapshot",
    "quantile",
]

# Four buckets for each power of two: a quantile is at most 25 % too high.
_STEPS: Final = 4
_SMALLEST: Final = 10  # 2**10 ns, about 1 us
_LARGEST: Final = 37  # 2**37 ns, about 137 s
_QUICK_SHIFT: Final = _SMALLEST - 2  # what is cut off makes no difference to the bucket
_SAMPLED: Final = 15
_LONG_NS: Final = 100_000_000
_MAX_TEXT: Final = 1024  # of the last error, in characters
_MAX_CALLER: Final = 128  # of a caller's name, in characters
_MAX_CALLERS: Final = 100

BOUNDS_NS: Final = tuple(
    (1 << power) * (_STEPS + step + 1) // _STEPS
    for power in range(_SMALLEST, _LARGEST)
    for step in range(_STEPS)
)
"""Upper bound of each bucket of `Snapshot.buckets`, in nanoseconds; the last is open."""


BOUNDS_SECONDS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025),
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Upper bounds of every histogram of durations that a backend gets, in seconds."""


def _bucket(duration_ns: int) -> int:
    """Return the index of the bucket that a duration falls into."""
    power = duration_ns.bit_length() - 1
    if power < _SMALLEST:
        return 0
    if power >= _LARGEST:
        return len(BOUNDS_NS) - 1
    step = (duration_ns >> (power - 2)) & 3
    return (power - _SMALLEST) * _STEPS + step


_QUICK: Final = bytes(_bucket(n << _QUICK_SHIFT) for n in range(1 << 13))
"""Buckets of durations under 2 ms, which most are: looked up, not computed."""


@dataclass(slots=True)
class Outcome:
    """The turns that ended with one error code.

    Attributes:
        processing_ns: Time spent in them, in nanoseconds.
        buckets: Their durations, as in `Snapshot.buckets`.
        exemplars: As in `Snapshot.exemplars`.
    """

    processing_ns: int = 0
    buckets: list[int] = field(default_factory=lambda: [0] * len(BOUNDS_NS))
    exemplars: dict[int, Exemplar] = field(default_factory=dict)

    def copy(self) -> Outcome:
        """Return the numbers as they are now."""
        return Outcome(self.processing_ns, self.buckets.copy(), self.exemplars.copy())


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One reading of an endpoint's counters since the instance started.

    Attributes:
        requests: Turns that ran, failed ones included.
        errors: Asks that were answered with an error, those shed and refused included.
        codes: Those by code.
        expired: Asks dropped unread because their deadline had passed.
        cancelled: Turns ended because their caller gave up or their time was up.
        shed: Asks refused because the mailbox was full.
        invalid: Asks refused because headers or body did not fit; also in `errors`.
        unvouched: Requests whose ``Kit-Principal`` did not hold: forged, stale, bare or
            for somebody else; they are nobody's.
        last_error: ``code:text`` of the last error; "" for none.
        processing_ns: Time spent in turns, in nanoseconds.
        buckets: Turns by duration; bounds in `BOUNDS_NS`.
        callers: Turns by calling endpoint (``Kit-Caller``), at most 100 names.
        exemplars: The last turn with a sampled trace that ended well, by bucket of
            `BOUNDS_SECONDS`.
        outcomes: The turns that failed, by code; all others ended well.
        refused: Requests that never became a turn, by code; also in `requests`.
    """

    requests: int
    errors: int
    codes: dict[str, int]
    expired: int
    cancelled: int
    shed: int
    invalid: int
    unvouched: int
    last_error: str
    processing_ns: int
    buckets: tuple[int, ...]
    callers: dict[str, int]
    exemplars: dict[int, Exemplar] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)


class EndpointStats:
    """The counters of one endpoint of one instance; fields as in `Snapshot`."""

    __slots__ = (
        "buckets",
        "callers",
        "cancelled",
        "codes",
        "errors",
        "exemplars",
        "expired",
        "invalid",
        "last_error",
        "outcomes",
        "processing_ns",
        "refused",
        "shed",
        "unvouched",
    )

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start again from zero."""
        self.errors = self.expired = self.cancelled = 0
        self.shed = self.invalid = self.unvouched = self.processing_ns = 0
        self.last_error = ""
        self.buckets = [0] * len(BOUNDS_NS)
        self.callers: dict[str, int] = {}
        self.codes: dict[str, int] = {}
        self.exemplars: dict[int, Exemplar] = {}
        # Turns that failed are in `buckets` too, so that one that ends well costs nothing
        # more: what is not here ended well.
        self.outcomes: dict[str, Outcome] = {}
        self.refused: dict[str, int] = {}

    @property
    def requests(self) -> int:
        """Turns that ran, and requests that never became one."""
        return sum(self.buckets) + sum(self.refused.values())

    def observe(self, duration_ns: int, message: Message | None = None) -> None:
        """Count one turn that took `duration_ns` nanoseconds.

        Args:
            duration_ns: From its begin to its end.
            message: The request; the trace of one in 16 that took as long, the first one
                included, and of each very long one is kept as an exemplar.
        """
        self.processing_ns += duration_ns
        try:
            bucket = _QUICK[duration_ns >> _QUICK_SHIFT]
        except IndexError:
            bucket = _bucket(duration_ns)
        count = self.buckets[bucket] = self.buckets[bucket] + 1
        if (count & _SAMPLED == 1 or duration_ns > _LONG_NS) and message is not None:
            _keep(self.exemplars, duration_ns, message)

    def broke(
        self, code: str, duration_ns: int, message: Message | None = None
    ) -> None:
        """Count that a turn which `observe` counts, before or after, ended with `code`.

        Args:
            code: Of its error.
            duration_ns: As for `observe`.
            message: As for `observe`, which is not given it then.
        """
        outcome = self.outcomes.get(code)
        if outcome is None:
            outcome = self.outcomes[code] = Outcome()
        outcome.processing_ns += duration_ns
        bucket = _bucket(duration_ns)
        count = outcome.buckets[bucket] = outcome.buckets[bucket] + 1
        if message is not None and (
            count & _SAMPLED == 1 or duration_ns > _LONG_NS or not outcome.exemplars
        ):
            _keep(outcome.exemplars, duration_ns, message)

    def refuse(self, code: str) -> None:
        """Count a request that is answered with `code` and never becomes a turn."""
        self.refused[code] = self.refused.get(code, 0) + 1

    def failed(self, code: str, text: str) -> None:
        """Count an error answer; of `text` is kept what any report can hold."""
        self.errors += 1
        self.codes[code] = self.codes.get(code, 0) + 1
        clean = text[:_MAX_TEXT].encode(errors="replace").decode()
        self.last_error = f"{code}:{clean}"

    def called_by(self, caller: str) -> None:
        """Count a caller; past 100 names the rest are counted as ``other``."""
        caller = caller[:_MAX_CALLER]
        if caller not in self.callers and len(self.callers) >= _MAX_CALLERS:
            caller = "other"
        self.callers[caller] = self.callers.get(caller, 0) + 1

    def snapshot(self) -> Snapshot:
        """Return the counters as they are now."""
        return Snapshot(
            requests=self.requests,
            errors=self.errors,
            codes=dict(self.codes),
            expired=self.expired,
            cancelled=self.cancelled,
            shed=self.shed,
            invalid=self.invalid,
            unvouched=self.unvouched,
            last_error=self.last_error,
            processing_ns=self.processing_ns,
            buckets=tuple(self.buckets),
            callers=dict(self.callers),
            exemplars=dict(self.exemplars),
            outcomes={code: one.copy() for code, one in self.outcomes.items()},
            refused=dict(self.refused),
        )


def _keep(exemplars: dict[int, Exemplar], duration_ns: int, message: Message) -> None:
    found = trace_of(message)
    if found is not None:
        seconds = duration_ns / 1e9
        bucket = bisect_left(BOUNDS_SECONDS, seconds)
        exemplars[bucket] = Exemplar(*found, seconds, time.time())


def quantile(buckets: tuple[int, ...], q: float) -> int:
    """Return the upper bound of the bucket that holds quantile `q`, in nanoseconds.

    Args:
        buckets: Counts, as in `Snapshot.buckets`.
        q: From 0 to 1.
    """
    left = q * sum(buckets)
    for bound, count in zip(BOUNDS_NS, buckets, strict=True):
        left -= count
        if count and left <= 0:
            return bound
    return 0
