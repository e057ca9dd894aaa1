"""Rate limit: calls a second.

A token bucket in its one-number form (GCRA, ITU-T I.371): a bucket is the time at which
it will be full again.  Each instance counts for itself, or with `shared` the whole fleet
together (`kitmsg.leases`).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Hashable
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from kitmsg.bus import Bus
from kitmsg.bus.reach import site
from kitmsg.context import Context
from kitmsg.endpoints import Middleware
from kitmsg.errors import DeadlineExceeded, ResourceExhausted
from kitmsg.jetstream import KEEPS
from kitmsg.jetstream.checks import check_key
from kitmsg.leases import LIMITS, Lease, Limit, limits_of
from kitmsg.metrics.resilience import RESILIENCE

if TYPE_CHECKING:
    from kitmsg.endpoints import Endpoint, Req, Resp
    from kitmsg.jetstream import KeyValue

__all__ = ["Buckets", "rate_limit"]

_PART: Final = "rate_limit"
_FEW_KEYS: Final = 1024
_STORE_SECONDS: Final = 0.5  # until a store that is silent counts as out of reach
_SHARED_BURST: Final = 0.2  # of a second's worth


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
    shared: str = "",
    store: Bus | None = None,
) -> Middleware:
    """Let at most `per_second` calls a second through, on average.

    With `shared` that is the limit of all who name it, in the whole fleet, within 5 % over
    ten seconds.  Each instance leases tokens for about a tenth of a second from a
    key-value bucket on NATS, so most calls wait for nobody.  While the store is out of
    reach each instance has its share: the limit, divided by the members seen last.

    Args:
        per_second: Calls a second; more than zero, may be a fraction.
        burst: Calls that may come at once after a quiet time; at least 1.  None for one
            second's worth, with `shared` a fifth of that, but 2.
        wait: Delay a call that is over the limit, in order of arrival, instead of
            refusing it.  One that could not start before its deadline is refused at
            once.  A call cancelled while it waits has used its place.
        key: Gives each of its values a limit of its own, such as
            ``key=lambda ctx, request: ctx.caller``; None for one limit.  With `shared`
            values are told apart by their `repr`.
        shared: Name of a limit of the whole fleet; "" for one of this instance.
        store: Bus to the store of `shared`; None for the one that the endpoint is on.

    Raises:
        ValueError: `per_second` is not positive or `burst` is less than 1; when an endpoint
            is wrapped, that there is no bus for `shared`.
        InvalidArgument: `shared` cannot be a name: dotted tokens of letters, digits, ``-``,
            ``_``, ``/`` and ``=``.
        ResourceExhausted: From the wrapped endpoint, over the limit; `retry_after` says
            when a call would be let through.
    """
    if not per_second > 0:
        raise ValueError(f"per_second must be positive, not {per_second!r}")
    if burst is not None and burst < 1:
        raise ValueError(f"burst must be at least 1, not {burst!r}")
    if shared:
        few = max(2.0, _SHARED_BURST * per_second) if burst is None else float(burst)
        limit = Limit(name=check_key(shared), per_second=per_second, burst=few)
        return _fleet_limit(limit, wait=wait, key=key, store=store)
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


def _fleet_limit(
    limit: Limit,
    *,
    wait: bool,
    key: Callable[[Context, Any], Hashable] | None,
    store: Bus | None,
) -> Middleware:
    """Return the middleware of a limit that a fleet shares."""

    def wrap(call: Endpoint[Req, Resp], /) -> Endpoint[Req, Resp]:
        shares = _Shares(limit, limits_of(_bus_of(limit, store)), wait=wait)

        async def limited(ctx: Context, request: Req) -> Resp:
            await shares.enter(ctx, "" if key is None else repr(key(ctx, request)))
            return await call(ctx, request)

        return limited

    if store is None:
        setattr(wrap, KEEPS, LIMITS)
    return wrap


def _bus_of(limit: Limit, store: Bus | None) -> Bus:
    place = site()
    if store is not None:
        return store
    if place is None:
        raise ValueError(
            f"{_PART}(shared={limit.name!r}) has no bus here: give one, store=bus, or put"
            " it around an endpoint of a service or a client"
        )
    return place.bus


class _Shares:
    """A fleet's limit at one endpoint: a lease for each value of its key."""

    def __init__(
        self,
        limit: Limit,
        open_bucket: Callable[[], Awaitable[KeyValue]],
        *,
        wait: bool,
    ) -> None:
        self._limit = limit
        self._open = open_bucket
        self._wait = wait
        self._leases: dict[str, Lease] = {}
        # What is allowed without the store, for how many members.
        self._alone = 0, Buckets(1, 1)

    async def enter(self, ctx: Context, who: str) -> None:
        """Return when there is a token.

        Raises:
            ResourceExhausted: There is none, or none before the deadline.
            DeadlineExceeded: The store did not answer before it.
        """
        lease = self._leases.get(who) or self._lease(who)
        if not self._wait:
            delay = await self._take(ctx, lease, who)
            if delay:
                raise _refusal(ctx.endpoint, self._limit.per_second, delay, shared=True)
            return
        lease.waiting += 1
        try:
            ahead = (lease.waiting - 1) * self._limit.interval
            self._check(ctx, ahead if lease.turn.locked() else 0.0)
            async with lease.turn:  # in the order of arrival
                while delay := await self._take(ctx, lease, who):
                    self._check(ctx, delay)
                    await asyncio.sleep(delay)
        finally:
            lease.waiting -= 1

    def _check(self, ctx: Context, delay: float) -> None:
        left = ctx.remaining(asyncio.get_running_loop().time())
        if left is not None and delay >= left:
            raise _refusal(ctx.endpoint, self._limit.per_second, delay, shared=True)

    async def _take(self, ctx: Context, lease: Lease, who: str) -> float:
        """Take a token; return 0, or the seconds until there may be one."""
        clock = asyncio.get_running_loop().time
        while True:
            now = clock()
            delay = lease.take(now)
            if delay == 0.0:
                return delay
            if lease.is_cut_off:
                return self._take_alone(ctx, lease, who, now)
            if delay is not None:
                return delay
            try:
                async with asyncio.timeout(ctx.remaining(now)):
                    await lease.arrival()
            except TimeoutError:
                RESILIENCE.refused(_PART, ctx.endpoint)
                raise DeadlineExceeded(
                    f"{_PART}: {ctx.endpoint or 'a call'} had no answer about the limit"
                    f" {self._limit.name} of the fleet in time",
                    retry_after=_STORE_SECONDS,
                ).before(ctx.endpoint) from None

    def _take_alone(self, ctx: Context, lease: Lease, who: str, now: float) -> float:
        members, buckets = self._alone
        if members != lease.members:
            limit, members = self._limit, lease.members
            burst = max(1.0, limit.burst / members)
            buckets = Buckets(limit.per_second / members, burst, _FEW_KEYS)
            self._alone = members, buckets
        delay = buckets.delay(who, now)
        if not delay:
            buckets.take(who, now)
            RESILIENCE.done(_PART, ctx.endpoint)
        return delay

    def _lease(self, who: str) -> Lease:
        if len(self._leases) >= _FEW_KEYS:
            self._leases = {k: v for k, v in self._leases.items() if not v.is_idle}
        limit = self._limit
        if who:
            digest = hashlib.sha256(who.encode(errors="replace")).hexdigest()[:32]
            limit = Limit(
                name=f"{limit.name}.{digest}",
                per_second=limit.per_second,
                burst=limit.burst,
            )
        lease = self._leases[who] = Lease(limit, self._open)
        return lease


def _refusal(
    name: str, per_second: float, delay: float, *, shared: bool = False
) -> ResourceExhausted:
    RESILIENCE.refused(_PART, name)
    text = f"{_PART}: {name or 'calls'} over the limit of {per_second:g} calls a second"
    if shared:
        text += " for the fleet"
    return ResourceExhausted(text, retry_after=delay).before(name)
