"""Rate limit: calls a second.

A token bucket in its one-number form (GCRA, ITU-T I.371): a bucket is the time at which
it will be full again.  Each instance counts for itself; a limit for a whole fleet needs
a shared store, which this is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from kitmsg.context import Context
from kitmsg.endpoints import Middleware
from kitmsg.errors import ResourceExhausted
from kitmsg.metrics.resilience import RESILIENCE

if TYPE_CHECKING:
    from kitmsg.endpoints import Endpoint, Req, Resp

__all__ = ["Buckets", "rate_limit"]

_PART: Final = "rate_limit"
_FEW_KEYS: Final = 1024


class Buckets:
    """Token buckets by key.

    Invariant: a bucket that is not kept is full, or there are more than `most` that are
    not; then those used last are kept.

    Args:
        per_second: Tokens a second; more than zero.
        burst: Tokens in a full bucket; at least 1.
        most: Buckets that are kept; None for all.
    """

    def __init__(
        self, per_second: float, burst: float, most: int | None = None
    ) -> None:
        self._interval = 1.0 / per_second
        self._slack = (burst - 1.0) / per_second
        self._most = most
        self._full_at: dict[Hashable, float] = {}  # the one used last stands last
        self._sweep_at = _FEW_KEYS

    def __len__(self) -> int:
        return len(self._full_at)

    def delay(self, key: Hashable, now: float) -> float:
        """Return the seconds until there is a token for `key`; 0 if there is one."""
        return max(0.0, self._full_at.get(key, now) - now - self._slack)

    def fill_time(self, key: Hashable, now: float) -> float:
        """Return the seconds until the bucket of `key` is full."""
        return max(0.0, self._full_at.get(key, now) - now)

    def take(self, key: Hashable, now: float) -> None:
        """Take a token, also one that is still to come."""
        full_at = max(self._full_at.pop(key, now), now)
        self._full_at[key] = full_at + self._interval
        if len(self._full_at) > self._sweep_at:
            self._sweep(now)

    def _sweep(self, now: float) -> None:
        """Forget full buckets; the next sweep comes when twice as many are kept."""
        kept = {key: at for key, at in self._full_at.items() if at > now}
        if self._most is not None and len(kept) > self._most // 2:
            kept = dict(islice(kept.items(), len(kept) - self._most // 2, None))
        self._full_at = kept
        self._sweep_at = max(_FEW_KEYS, 2 * len(kept))


def rate_limit(
    per_second: float,
    burst: int | None = None,
    *,
    wait: bool = False,
    key: Callable[[Context, Any], Hashable] | None = None,
) -> Middleware:
    """Let at most `per_second` calls a second through, on average.

    Args:
        per_second: Calls a second; more than zero, may be a fraction.
        burst: Calls that may come at once after a quiet time; at least 1.  None for one
            second's worth.
        wait: Delay a call that is over the limit, in order of arrival, instead of
            refusing it.  One that could not start before its deadline is refused at
            once.  A call cancelled while it waits has used its place.
        key: Gives each of its values a limit of its own, such as
            ``key=lambda ctx, request: ctx.caller``; None for one limit.

    Raises:
        ValueError: `per_second` is not positive or `burst` is less than 1.
        ResourceExhausted: From the wrapped endpoint, over the limit; `retry_after` says
            when a call would be let through.
    """
    if not per_second > 0:
        raise ValueError(f"per_second must be positive, not {per_second!r}")
    if burst is not None and burst < 1:
        raise ValueError(f"burst must be at least 1, not {burst!r}")
    most = max(1.0, per_second) if burst is None else float(burst)

    def wrap(call: Endpoint[Req, Resp], /) -> Endpoint[Req, Resp]:
        buckets = Buckets(per_second, most)

        async def limited(ctx: Context, request: Req) -> Resp:
            now = asyncio.get_running_loop().time()
            who = None if key is None else key(ctx, request)
            delay = buckets.delay(who, now)
            if delay:
                left = ctx.remaining(now)
                if not wait or (left is not None and delay >= left):
                    raise _refusal(ctx.endpoint, per_second, delay)
            buckets.take(who, now)
            if delay:
                await asyncio.sleep(delay)
            return await call(ctx, request)

        return limited

    return wrap


def _refusal(name: str, per_second: float, delay: float) -> ResourceExhausted:
    RESILIENCE.refused(_PART, name)
    text = f"{_PART}: {name or 'calls'} over the limit of {per_second:g} calls a second"
    return ResourceExhausted(text, retry_after=delay).before(name)
