"""Refuse calls that would only wait, when a process has more than it can do.

BBR-like shedding, as Kratos and go-zero have it, with another signal of overload: how
late the event loop is, instead of the machine's CPU, which says little about one process
with one loop.  While the loop is late, no more calls run at once than the best recent
throughput and the least recent latency ask for (Little's law).
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import TYPE_CHECKING, Final

from kitmsg.context import Context
from kitmsg.endpoints import Middleware
from kitmsg.errors import ResourceExhausted
from kitmsg.metrics.resilience import RESILIENCE

if TYPE_CHECKING:
    from kitmsg.endpoints import Endpoint, Req, Resp

__all__ = ["Capacity", "shed"]

_PART: Final = "shed"
_BUCKET: Final = 0.1  # seconds
_BUCKETS: Final = 100
_TICK: Final = 0.02  # seconds between looks at the loop
_SMOOTHING: Final = 0.8  # share of the old lag in the new
_COOL: Final = 1.0  # seconds that shedding goes on after its last refusal


class Capacity:
    """The calls at once that a process can do without making them wait.  No clock.

    Bound: most calls done in a tenth of a second of the last ten, by the least mean time
    of one.  A tenth that is not over counts for neither.
    """

    def __init__(self) -> None:
        self._past: deque[tuple[int, int, float]] = deque()  # bucket, calls, least mean
        self._bucket = 0
        self._calls = 0
        self._seconds = 0.0
        self._bound = math.inf

    def done(self, seconds: float, now: float) -> None:
        """Count a call that took `seconds`."""
        self._move(now)
        self._calls += 1
        self._seconds += seconds

    def bound(self, now: float) -> float:
        """Return the most calls at once; infinite while nothing is known."""
        self._move(now)
        return self._bound

    def _move(self, now: float) -> None:
        bucket = int(now / _BUCKET)
        if bucket == self._bucket:
            return
        if self._calls:
            mean = self._seconds / self._calls
            self._past.append((self._bucket, self._calls, mean))
        while self._past and self._past[0][0] <= bucket - _BUCKETS:
            self._past.popleft()
        self._bucket, self._calls, self._seconds = bucket, 0, 0.0
        self._bound = math.inf
        if self._past:
            most = max(calls for _, calls, _ in self._past)
            least = min(mean for _, _, mean in self._past)
            self._bound = max(1.0, math.floor(most / _BUCKET * least + 0.5))


class _Lag:
    """Lateness of the event loop, smoothed; it is looked at only while there are calls."""

    def __init__(self) -> None:
        self.seconds = 0.0  # smoothed
        self._is_used = False  # whether there was a call since the last look
        self._is_watching = False  # whether a timer is set

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look at the loop soon, and as long as there are calls."""
        self._is_used = True
        if not self._is_watching:
            self._is_watching = True
            self._set(loop)

    def _set(self, loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() + _TICK
        loop.call_at(due, self._look, loop, due)

    def _look(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        late = max(0.0, loop.time() - due)
        self.seconds = _SMOOTHING * self.seconds + (1 - _SMOOTHING) * late
        if self._is_used:
            self._is_used = False
            self._set(loop)
        else:
            self._is_watching = False
            self.seconds = 0.0


def shed(*, lag: float = 0.05) -> Middleware:
    """Refuse calls over the capacity while the event loop is late.

    Put it outermost around a service: what it refuses cost nearly nothing.  The limit is
    measured and needs no numbers of yours; a process that keeps up is never limited.

    Args:
        lag: Lateness of the event loop, smoothed, in seconds, that means overload; more
            than zero.

    Raises:
        ValueError: `lag` is not positive.
        ResourceExhausted: From the wrapped endpoint; `retry_after` says when the refusals
            end if the load does.
    """
    if not lag > 0:
        raise ValueError(f"lag must be positive, not {lag!r}")

    def wrap(call: Endpoint[Req, Resp], /) -> Endpoint[Req, Resp]:
        capacity, watch = Capacity(), _Lag()
        running = 0
        until = 0.0  # when shedding ends, unless the loop is still late

        async def shielded(ctx: Context, request: Req) -> Resp:
            nonlocal running, until
            loop = asyncio.get_running_loop()
            begun = loop.time()
            if (watch.seconds > lag or begun < until) and running >= capacity.bound(
                begun
            ):
                until = begun + _COOL
                raise _refusal(ctx.endpoint, running)
            running += 1
            watch.watch(loop)
            try:
                response = await call(ctx, request)
            finally:
                running -= 1
            now = loop.time()
            capacity.done(now - begun, now)
            return response

        return shielded

    return wrap


def _refusal(name: str, running: int) -> ResourceExhausted:
    RESILIENCE.refused(_PART, name)
    text = f"{_PART}: {running} calls of {name or 'this endpoint'} are all that can run"
    return ResourceExhausted(text, retry_after=_COOL).before(name)
