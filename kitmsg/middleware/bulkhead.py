"""Concurrency limit, so that one slow dependency cannot take everything."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kitmsg.endpoints import Middleware
from kitmsg.errors import DeadlineExceeded, ResourceExhausted
from kitmsg.metrics.resilience import RESILIENCE
from kitmsg.turnover import Turnover

if TYPE_CHECKING:
    from kitmsg.context import Context
    from kitmsg.endpoints import Endpoint, Req, Resp

__all__ = ["bulkhead"]


class _Seats:
    """A semaphore that knows how many wait, and refuses when too many do."""

    def __init__(self, concurrency: int, queue: int) -> None:
        self._semaphore = asyncio.Semaphore(concurrency)
        self._concurrency = concurrency
        self._queue = queue
        self._waiting = 0
        self.turnover = Turnover(concurrency)

    async def take(self, deadline: float | None, endpoint: str) -> None:
        """Take a seat for a call of `endpoint`, in order of arrival.

        Raises:
            ResourceExhausted: As many wait as may.
            DeadlineExceeded: No seat came free before `deadline`.
        """
        if not self._semaphore.locked():
            await self._semaphore.acquire()  # does not wait
            return
        if self._waiting >= self._queue:
            RESILIENCE.refused("bulkhead", endpoint)
            full = (
                f"bulkhead: {self._concurrency} calls of {endpoint or 'this endpoint'} run"
                f" and {self._waiting} wait already"
            )
            wait = self.turnover.wait(self._waiting)
            raise ResourceExhausted(full, retry_after=wait).before(endpoint)
        self._waiting += 1
        try:
            async with asyncio.timeout_at(deadline):
                await self._semaphore.acquire()
        except TimeoutError as exc:
            RESILIENCE.refused("bulkhead", endpoint)
            late = DeadlineExceeded(
                "bulkhead: no place came free before the deadline of"
                f" {endpoint or 'this endpoint'}",
                retry_after=self.turnover.wait(self._waiting),
            )
            raise late.before(endpoint) from exc
        finally:
            self._waiting -= 1

    def leave(self) -> None:
        """Give the seat to the next in the queue."""
        self._semaphore.release()


def bulkhead(concurrency: int, *, queue: int = 0) -> Middleware:
    """Let at most `concurrency` calls run at once and at most `queue` wait for it.

    Args:
        concurrency: Calls at once; at least 1.
        queue: Calls that may wait, served in order of arrival; at least 0.

    Raises:
        ValueError: `concurrency` or `queue` is too small.
        ResourceExhausted: From the wrapped endpoint, at once, when the queue is full.
        DeadlineExceeded: From the wrapped endpoint, when the deadline passes in the
            queue.
    """
    if concurrency < 1:
        raise ValueError(f"concurrency must be at least 1, not {concurrency!r}")
    if queue < 0:
        raise ValueError(f"queue must be at least 0, not {queue!r}")

    def wrap(call: Endpoint[Req, Resp], /) -> Endpoint[Req, Resp]:
        seats = _Seats(concurrency, queue)

        async def seated(ctx: Context, request: Req) -> Resp:
            await seats.take(ctx.deadline, ctx.endpoint)
            clock = asyncio.get_running_loop().time
            start = clock()
            try:
                return await call(ctx, request)
            finally:
                seats.turnover.took(clock() - start)
                seats.leave()

        return seated

    return wrap
