"""Give up on a call after a while."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kitmsg.context import Context, current, enter
from kitmsg.endpoints import Middleware
from kitmsg.errors import DeadlineExceeded

if TYPE_CHECKING:
    from kitmsg.endpoints import Endpoint, Req, Resp

__all__ = ["timeout"]


def timeout(seconds: float) -> Middleware:
    """Fail a call that takes longer than `seconds`.

    A nearer deadline already in the context wins.  The wrapped endpoint sees the
    resulting deadline, and so do the calls it makes, so the peers can stop early too.
    A call whose deadline has passed is not started.

    Args:
        seconds: Longest time to wait, in seconds; more than zero.

    Raises:
        ValueError: `seconds` is not positive.
        DeadlineExceeded: From the wrapped endpoint, when time is up.
    """
    if not seconds > 0:
        raise ValueError(f"seconds must be positive, not {seconds!r}")

    def wrap(call: Endpoint[Req, Resp], /) -> Endpoint[Req, Resp]:
        async def limited(ctx: Context, request: Req) -> Resp:
            now = asyncio.get_running_loop().time()
            left = ctx.remaining(now)
            allowed = seconds if left is None else min(seconds, left)
            if allowed <= 0:
                raise DeadlineExceeded("the deadline had passed before the call")
            narrowed = ctx.evolve(deadline=now + allowed)
            is_turn = current() is ctx  # then nested calls take their deadline from it
            if is_turn:
                enter(narrowed)
            scope = asyncio.timeout_at(now + allowed)
            try:
                async with scope:
                    return await call(narrowed, request)
            except TimeoutError as exc:
                if not scope.expired():
                    raise  # the endpoint's own timeout, not ours
                raise DeadlineExceeded(f"no response within {allowed:.3f} s") from exc
            finally:
                if is_turn:
                    enter(ctx)

        return limited

    return wrap
