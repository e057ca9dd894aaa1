"""A time limit, a concurrency limit, a circuit and a fallback, as Netflix's Hystrix has them.

The options and their defaults are hystrix-go's, which Go kit wraps.  The time limit really
cancels the call, where hystrix-go lets it run on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from kitmsg.circuit import IsFailure, State, guard, is_peer_failure
from kitmsg.context import Context
from kitmsg.endpoints import Middleware
from kitmsg.errors import DeadlineExceeded, KitError, ResourceExhausted
from kitmsg.metrics.resilience import RESILIENCE
from kitmsg.rolling import Rolling
from kitmsg.turnover import Turnover

if TYPE_CHECKING:
    from kitmsg.endpoints import Endpoint, Req, Resp

__all__ = ["hystrix"]

_PART: Final = "hystrix"
_WINDOW: Final = 10.0


def hystrix(
    *,
    timeout: float = 1.0,
    concurrency: int = 10,
    errors: float = 0.5,
    minimum: int = 20,
    sleep: float = 5.0,
    fallback: Callable[[Context, Any, Exception], Awaitable[Any]] | None = None,
    is_failure: IsFailure = is_peer_failure,
) -> Middleware:
    """Guard a dependency with everything that hystrix has.

    Args:
        timeout: Longest call, in seconds; it is cancelled then.
        concurrency: Calls at once; one more is refused.
        errors: Share of failures in ten seconds that opens the circuit; over 0 to 1.
        minimum: Calls in ten seconds before that share is looked at.
        sleep: Seconds the circuit stays open before one call tries the peer.
        fallback: Gives the result instead, from context, request and error, whatever
            refused or failed; None to raise.
        is_failure: Says whether an error counts against the peer.

    Raises:
        ValueError: A number is out of its range.
        DeadlineExceeded: From the wrapped endpoint, when `timeout` is over.
        ResourceExhausted: From the wrapped endpoint, when too many calls run.
        Unavailable: From the wrapped endpoint, while the circuit is open.
    """
    for name, value in (("timeout", timeout), ("concurrency", concurrency)):
        if not value > 0:
            raise ValueError(f"{name} must be positive, not {value!r}")
    if not (0 < errors <= 1 and minimum >= 1):
        raise ValueError(
            f"errors must be over 0 and at most 1, minimum at least 1,"
            f" not {errors!r} and {minimum!r}"
        )

    def make() -> _Errors:
        return _Errors(errors, minimum)

    def counts(error: Exception) -> bool:
        return isinstance(error, _TooMany) or is_failure(error)

    circuit = guard(_PART, make, reset=sleep, is_failure=counts)

    def wrap(call: Endpoint[Req, Resp], /) -> Endpoint[Req, Resp]:
        guarded = circuit(_limited(call, timeout, concurrency))
        if fallback is None:
            return guarded

        async def saved(ctx: Context, request: Req) -> Resp:
            try:
                return await guarded(ctx, request)
            except Exception as error:  # noqa: BLE001  whatever failed
                RESILIENCE.done(_PART, ctx.endpoint)
                result: Resp = await fallback(ctx, request, error)
                return result

        return saved

    return wrap


class _TooMany(ResourceExhausted):
    """Refused here for concurrency: counts as an error, as hystrix counts it."""


def _limited(
    call: Endpoint[Req, Resp], timeout: float, concurrency: int
) -> Endpoint[Req, Resp]:
    running = 0
    turnover = Turnover(concurrency)

    async def limited(ctx: Context, request: Req) -> Resp:
        nonlocal running
        if running >= concurrency:
            RESILIENCE.refused(_PART, ctx.endpoint)
            name = ctx.endpoint or "this endpoint"
            full = f"{_PART}: {concurrency} calls of {name} run already"
            raise _TooMany(full, retry_after=turnover.wait()).before(ctx.endpoint)
        running += 1
        clock = asyncio.get_running_loop().time
        start = clock()
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                return await call(ctx, request)
        except TimeoutError as exc:
            if isinstance(exc, KitError) or not limit.expired():
                raise
            late = f"{_PART}: {ctx.endpoint} took over {timeout:g} s"
            raise DeadlineExceeded(late) from exc
        finally:
            running -= 1
            turnover.took(clock() - start)

    return limited


class _Errors:
    """Opens when the share of errors in ten seconds reaches a limit."""

    def __init__(self, share: float, minimum: int) -> None:
        self._share = share
        self._minimum = minimum
        self._recent = Rolling(_WINDOW)

    def count(self, error: Exception | None, now: float) -> str:
        """Count an outcome."""
        recent = self._recent
        if error is None:
            recent.succeeded(now)
        else:
            recent.failed(now)
        # hystrix looks after every call, a success too: the volume may be there only now.
        if recent.total < self._minimum or recent.failures < self._share * recent.total:
            return ""
        return f"after {recent.failures} failures of {recent.total} calls"

    def moved(self, _state: State) -> None:
        """Count from zero in the next state."""
        self._recent.clear()
