"""Hedge: a second try, to another instance, when the first takes unusually long.

J. Dean, L. Barroso, "The Tail at Scale": after the time that most calls need, so that the
extra load is small; a budget holds it down when everything is slow.  The answer that comes
first counts, the other call is cancelled.  Its work may be done twice, so only idempotent
endpoints are hedged.

"Another" is for whoever picks instances: `kitmsg.balance` passes over those in `TAKEN`.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections import deque
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from kitmsg.metrics.resilience import RESILIENCE
from kitmsg.schema.calls import StreamRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kitmsg.context import Context
    from kitmsg.endpoints import Endpoint, Middleware, Req, Resp

__all__ = ["TAKEN", "Hedge", "fitting", "hedge"]

TAKEN: Final[ContextVar[list[Any] | None]] = ContextVar("kitmsg.taken", default=None)
"""Nodes that the attempts of the hedged call have; None outside of one."""

_SAMPLES: Final = 500  # latencies that are remembered
_LEAST: Final = 20  # of them before a call is hedged
_BURST: Final = 5.0  # most hedges that a quiet time saves up


class Hedge:
    """A middleware; see `hedge`."""

    def __init__(self, quantile: float, budget: float, least: float) -> None:
        self._quantile = quantile
        self._budget = budget
        self._least = least

    def __call__(self, call: Endpoint[Req, Resp], /) -> Endpoint[Req, Resp]:
        """Wrap an endpoint; each has its own latencies and its own budget."""
        latencies = _Latencies(self._quantile)
        purse = _Purse(self._budget)

        async def hedged(ctx: Context, request: Req) -> Any:
            delay = latencies.delay()
            purse.earn()
            if delay is None or isinstance(request, StreamRequest):
                return await _timed(call(ctx, request), latencies)
            return await _raced(
                call, ctx, request, max(delay, self._least), latencies, purse
            )

        return hedged


async def _timed(answer: Any, latencies: _Latencies) -> Any:
    clock = asyncio.get_running_loop().time
    start = clock()
    result = await answer
    latencies.add(clock() - start)
    return result


async def _raced(
    call: Endpoint[Any, Any],
    ctx: Context,
    request: Any,
    delay: float,
    latencies: _Latencies,
    purse: _Purse,
) -> Any:
    """Return the first answer; an error counts only when no other try is left."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    token = TAKEN.set([])  # the tasks copy it, and so share the list
    try:
        tries = {loop.create_task(_answer(call, ctx, request))}
        try:
            done, _ = await asyncio.wait(tries, timeout=delay)
            if not done and purse.spend():
                RESILIENCE.done("hedge", ctx.endpoint)
                tries.add(loop.create_task(_answer(call, ctx, request)))
            return await _first(tries)
        finally:
            for task in tries:
                task.cancel()
    finally:
        TAKEN.reset(token)
        latencies.add(loop.time() - start)


async def _answer(call: Endpoint[Any, Any], ctx: Context, request: Any) -> Any:
    return await call(ctx, request)


async def _first(tries: set[asyncio.Task[Any]]) -> Any:
    """Return the first success; raise the last error when there is none."""
    pending = tries
    while True:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        good = [task for task in done if not task.cancelled() and not task.exception()]
        if good or not pending:
            return (good or list(done))[0].result()


class _Latencies:
    """A quantile of the last latencies."""

    def __init__(self, quantile: float) -> None:
        self._quantile = quantile
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []

    def add(self, seconds: float) -> None:
        """Count a call that took so long."""
        if len(self._recent) == _SAMPLES:
            self._sorted.remove(self._recent.popleft())
        self._recent.append(seconds)
        insort(self._sorted, seconds)

    def delay(self) -> float | None:
        """Return the quantile; None while too little is known."""
        count = len(self._sorted)
        if count < _LEAST:
            return None
        return self._sorted[min(count - 1, int(self._quantile * count))]


class _Purse:
    """Hedges that may be made: a share of the calls."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._left = 0.0

    def earn(self) -> None:
        """Count a call."""
        self._left = min(_BURST, self._left + self._share)

    def spend(self) -> bool:
        """Take a hedge out, if there is one."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


def fitting(around: Iterable[Middleware], *, idempotent: bool) -> list[Middleware]:
    """Return the middlewares of an endpoint: without hedges where it is not idempotent."""
    return [each for each in around if idempotent or not isinstance(each, Hedge)]


def hedge(
    quantile: float = 0.95, *, budget: float = 0.05, least: float = 0.001
) -> Hedge:
    """Ask another instance too when an answer takes longer than most do.

    Clients of a service, gateways and upstreams hedge the endpoints that are declared
    idempotent and no others; clients and gateways choose instances as `direct()` does
    unless they have a route.  Around a bare endpoint, that it is idempotent is yours to
    know.  What streams is not hedged.

    Args:
        quantile: Of the latest latencies, after which the second try begins; under 1.
        budget: Most second tries, as a share of the calls; from 0 to 1.
        least: Shortest wait before a second try, in seconds.

    Raises:
        ValueError: A number is out of range.
    """
    if not 0 < quantile < 1:
        raise ValueError(f"quantile must be between 0 and 1, not {quantile!r}")
    if not 0 < budget <= 1:
        raise ValueError(f"budget must be a share of the calls, to 1, not {budget!r}")
    if not least >= 0:
        raise ValueError(f"least must not be negative, not {least!r}")
    return Hedge(quantile, budget, least)
