"""Try again what failed for a reason that passes.

Backoff is exponential with full jitter (Marc Brooker, "Exponential Backoff And Jitter",
AWS Architecture Blog); the budget is gRPC's retry throttling (gRFC A6).  No hedging here,
and a stream of which an item went, either way, is not started again.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Final

from kitmsg.endpoints import Middleware
from kitmsg.errors import Code, KitError, code_of
from kitmsg.schema.calls import StreamRequest
from kitmsg.tracing import event
from kitmsg.wire import IDEMPOTENCY_KEY

if TYPE_CHECKING:
    from kitmsg.context import Context
    from kitmsg.endpoints import Endpoint, Req, Resp

__all__ = ["RetryBudget", "full_jitter", "retry", "tell_attempts", "tell_retry"]

_MAX_DOUBLINGS: Final = 30  # far over any cap; keeps the power a small number


def full_jitter(ceiling: float) -> float:
    """Return a delay from 0 to `ceiling`, in seconds, all equally likely."""
    return random.uniform(0.0, ceiling)  # noqa: S311  spreads load, guards no secret


class RetryBudget:
    """Stops retries when most calls fail, so that they do not keep a peer down.

    A failure takes one token, a success gives `ratio` back.  There are retries while
    more than half of the tokens are left.

    Args:
        tokens: Most tokens there can be, and there are at the start; more than zero.
        ratio: Tokens that a success gives back; 0.1 allows one retry per ten successes
            in the long run; more than zero.

    Raises:
        ValueError: `tokens` or `ratio` is not positive.
    """

    def __init__(self, *, tokens: float = 10.0, ratio: float = 0.1) -> None:
        if not (tokens > 0 and ratio > 0):
            raise ValueError(
                f"tokens and ratio must be positive, not {tokens!r} and {ratio!r}"
            )
        self._most = tokens
        self._left = tokens
        self._ratio = ratio

    def succeeded(self) -> None:
        """Count an attempt that succeeded."""
        self._left = min(self._most, self._left + self._ratio)

    def failed(self) -> bool:
        """Count an attempt that failed; return whether a retry is within the budget."""
        self._left = max(0.0, self._left - 1.0)
        return self._left > self._most / 2


def retry(  # noqa: PLR0915  # small functions, most of them
    attempts: int = 3,
    *,
    on: Collection[Code] = frozenset({Code.UNAVAILABLE}),
    idempotent: bool = False,
    base: float = 0.05,
    cap: float = 1.0,
    jitter: Callable[[float], float] = full_jitter,
    budget: RetryBudget | None = None,
) -> Middleware:
    """Call again, after a delay, when a call fails with one of the codes `on`.

    The delay before attempt n is ``jitter(min(cap, base * 2**(n - 2)))``, on top of the
    error's `retry_after` where it has one.  A delay that would reach the deadline is
    not begun: the error is raised at once.  The error raised is the last one; its
    ``__cause__`` is the one before, its notes tell every attempt.

    The `timeout` of `Kit.client` is over all attempts.  That of a bare
    `kitmsg.transport.Client` is each attempt's, unless a `timeout` stands outside.

    A call whose work may have begun is repeated only when `idempotent`.  Without that it is
    repeated where it certainly never began (`KitError.refused`): nobody listened, it was
    not sent, or the service refused it before its turn.  Around a service's own method that
    is the method's turn, so an error of a call that the method makes is not repeated there:
    put the retry around that call.

    All attempts of an `idempotent` call have one ``Kit-Idempotency-Key``, so that around an
    endpoint with `dedupe` the work is done once, whatever it is.

    Args:
        attempts: Most calls in all, the first one included; at least 1.
        on: Codes worth another attempt.
        idempotent: Doing the work twice is as good as once; adds DEADLINE_EXCEEDED
            to `on`, which helps when a `timeout` inside leaves time for another try.
        base: Ceiling of the first delay, in seconds.
        cap: Ceiling of every delay, in seconds.
        jitter: Makes a delay of a ceiling, both in seconds.
        budget: Shared by everything this middleware wraps; None for one of its own.

    Raises:
        ValueError: `attempts` is less than 1, `base` or `cap` is negative, or `on` has
            DEADLINE_EXCEEDED and `idempotent` is not set.
    """
    if attempts < 1:
        raise ValueError(f"attempts must be at least 1, not {attempts!r}")
    if not (base >= 0 and cap >= 0):
        raise ValueError(f"base and cap must not be negative: {base!r}, {cap!r}")
    if Code.DEADLINE_EXCEEDED in on and not idempotent:
        raise ValueError(
            "a call that timed out may have been carried out; "
            "say idempotent=True if doing it twice is fine"
        )
    codes = frozenset(on) | ({Code.DEADLINE_EXCEEDED} if idempotent else set())
    purse = RetryBudget() if budget is None else budget

    def delay(attempt: int, error: KitError) -> float:
        return (error.retry_after or 0.0) + jitter(
            min(cap, base * 2.0 ** min(attempt - 1, _MAX_DOUBLINGS))
        )

    def is_worth_it(error: KitError, ctx: Context, request: Any) -> bool:
        # In a turn the error may be one that the turn's own work let through.
        is_ours = ctx.message is None or error.refused == ctx.endpoint
        if not (idempotent or (error.refused and is_ours)):
            return False
        # Items that went cannot be had again.
        has_begun = isinstance(request, StreamRequest) and request.has_begun
        return not has_begun and error.code in codes and purse.failed()

    def wrap(call: Endpoint[Req, Resp], /) -> Endpoint[Req, Resp]:
        async def persistent(ctx: Context, request: Req) -> Resp:
            ctx = _with_key(ctx) if idempotent else ctx
            past: list[KitError] = []
            while True:
                try:
                    response = await call(ctx, request)
                except KitError as error:
                    past.append(error)
                    wait = delay(len(past), error)
                    if (
                        not is_worth_it(error, ctx, request)
                        or len(past) >= attempts
                        or not _is_in_time(ctx, wait)
                    ):
                        tell_attempts(past)
                        raise
                    tell_retry(past, wait)
                else:
                    purse.succeeded()
                    return response
                await asyncio.sleep(wait)

        return persistent

    return wrap


def tell_retry(past: Sequence[Exception], wait: float = 0.0) -> None:
    """Tell the call's span that another attempt comes, in `wait` seconds."""
    after = code_of(past[-1]).value
    event("retry", attempt=len(past) + 1, after=after, wait_seconds=wait)


def _with_key(ctx: Context) -> Context:
    """Return the context of a call with an idempotency key, its own if it has one."""
    if ctx.message is not None or IDEMPOTENCY_KEY in ctx.metadata:
        return ctx
    key = secrets.token_urlsafe(16)
    return ctx.evolve(metadata={**ctx.metadata, IDEMPOTENCY_KEY: key})


def _is_in_time(ctx: Context, wait: float) -> bool:
    """Return whether the deadline is more than `wait` seconds away."""
    left = ctx.remaining(asyncio.get_running_loop().time())
    return left is None or wait < left


def tell_attempts(past: Sequence[Exception]) -> None:
    """Put the history of the attempts into the last error.

    Its notes tell every attempt, its ``__cause__`` is the one before; nothing for one alone.
    """
    *earlier, last = past
    if not earlier:
        return
    for number, error in enumerate(past, 1):
        last.add_note(f"attempt {number}: {code_of(error)}: {error}")
    if last.__cause__ is None and last is not earlier[-1]:
        last.__cause__ = earlier[-1]
