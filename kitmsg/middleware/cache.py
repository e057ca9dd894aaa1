"""Keep results for a while; equal calls at one time are one call.

Each wrapped endpoint keeps its own results, in this process.  Results are handed out as
they are: a caller that changes one changes it for all.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import TYPE_CHECKING, Any, Final, Generic

import msgspec

from kitmsg.bus.reach import site
from kitmsg.context import Context
from kitmsg.endpoints import Endpoint, Middleware, Req, Resp
from kitmsg.errors import Cancelled, Code, DeadlineExceeded, code_of
from kitmsg.metrics.resilience import RESILIENCE
from kitmsg.schema.calls import StreamRequest
from kitmsg.wire import AUTHORIZATION, PRINCIPAL

if TYPE_CHECKING:
    from kitmsg.endpoints import Endpoint, Req

__all__ = ["cache", "cache_key"]

_PART: Final = "cache"
_DOWN: Final = frozenset(
    {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED}
)


def cache_key(ctx: Context, request: Any) -> Hashable:
    """Return the endpoint, the caller's identity and the request's bytes.

    Callers with other identities or tokens never share a result.
    """
    told = [
        fields.get(name, "")
        for fields in (ctx.metadata, ctx.headers)
        for name in (AUTHORIZATION, PRINCIPAL)
    ]
    body = msgspec.msgpack.encode(request, order="deterministic", enc_hook=repr)
    return ctx.endpoint, repr(ctx.principal), *told, body


def cache(
    ttl: float,
    *,
    stale: float = 0.0,
    key: Callable[[Context, Any], Hashable] = cache_key,
    most: int = 1024,
) -> Middleware:
    """Answer from memory for `ttl` seconds after a call succeeded.

    Errors are not kept.  Equal calls at one time wait for one call; it goes on while
    anybody waits, and those with time left start another when the deadline of the first
    cut it short.  What streams is not kept, and runs as ever.

    Args:
        ttl: Seconds a result is fresh; more than zero.
        stale: Seconds after that in which an old result is given at once while one call
            fetches a new one, and when that fails because the peer is down.
        key: Tells apart calls; equal keys share a result.  `cache_key` by default.
        most: Results kept; the one used longest ago goes first.

    Raises:
        ValueError: `ttl`, `stale` or `most` is too small.
    """
    if not ttl > 0:
        raise ValueError(f"ttl must be positive, not {ttl!r}")
    if stale < 0 or most < 1:
        raise ValueError(
            f"stale must not be negative and most at least 1: {stale!r}, {most!r}"
        )

    def wrap(call: Endpoint[Req, Resp], /) -> Endpoint[Req, Resp]:
        place = site()
        if place is not None and place.is_stream:
            return call
        kept: _Kept[Resp] = _Kept(ttl, stale, most)

        async def cached(ctx: Context, request: Req) -> Resp:
            if isinstance(request, StreamRequest):  # wired by hand
                return await call(ctx, request)
            place = key(ctx, request)
            now = asyncio.get_running_loop().time()
            entry = kept.find(place, now)
            if entry is not None:
                RESILIENCE.done(_PART, ctx.endpoint)
                if now >= entry[1]:
                    kept.refresh(place, lambda: call(ctx, request))
                return entry[0]
            while True:
                try:
                    return await kept.share(place, lambda: call(ctx, request))
                except _Cut as cut:
                    left = ctx.remaining(asyncio.get_running_loop().time())
                    if cut.is_ours or left == 0:
                        raise cut.error from cut.error.__cause__

        return cached

    return wrap


class _Cut(Exception):
    """The shared call was cut short by the deadline of whoever began it."""

    def __init__(self, error: Exception, *, is_ours: bool) -> None:
        super().__init__()
        self.error = error
        self.is_ours = is_ours


class _Flight(Generic[Resp]):
    """A call that several wait for."""

    def __init__(self, task: asyncio.Task[Resp]) -> None:
        self.task = task
        self.waiting = 0


class _Kept(Generic[Resp]):
    """Results by key, the one used last at the end, and calls under way."""

    def __init__(self, ttl: float, stale: float, most: int) -> None:
        self._ttl = ttl
        self._stale = stale
        self._most = most
        # key -> result, end of being fresh, end of being kept
        self._results: OrderedDict[Hashable, tuple[Resp, float, float]] = OrderedDict()
        self._flights: dict[Hashable, _Flight[Resp]] = {}

    def find(self, key: Hashable, now: float) -> tuple[Resp, float, float] | None:
        """Return a result that is not too old."""
        entry = self._results.get(key)
        if entry is None or now >= entry[2]:
            return None
        self._results.move_to_end(key)
        return entry

    def refresh(self, key: Hashable, call: Callable[[], Awaitable[Resp]]) -> None:
        """Fetch a new result in the background, once at a time."""
        if key not in self._flights:
            self._begin(key, call).waiting = 1  # nobody can cancel it by leaving

    async def share(self, key: Hashable, call: Callable[[], Awaitable[Resp]]) -> Resp:
        """Return the result of the call under way, or begin one.

        Raises:
            _Cut: A deadline or a cancellation of another ended it.
        """
        flight = self._flights.get(key)
        is_ours = flight is None
        if flight is None:
            flight = self._begin(key, call)
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        except (DeadlineExceeded, Cancelled) as error:
            raise _Cut(error, is_ours=is_ours) from error
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                flight.task.cancel()

    def _begin(
        self, key: Hashable, call: Callable[[], Awaitable[Resp]]
    ) -> _Flight[Resp]:
        async def fly() -> Resp:
            try:
                result = await call()
            except Exception as error:
                if code_of(error) not in _DOWN:
                    self._results.pop(key, None)  # the peer works, and has no result
                raise
            else:
                self._keep(key, result)
                return result
            finally:
                del self._flights[key]

        task = asyncio.ensure_future(fly())
        task.add_done_callback(_retrieve)
        flight = self._flights[key] = _Flight(task)
        return flight

    def _keep(self, key: Hashable, result: Resp) -> None:
        fresh = asyncio.get_running_loop().time() + self._ttl
        self._results[key] = result, fresh, fresh + self._stale
        self._results.move_to_end(key)
        if len(self._results) > self._most:
            self._results.popitem(last=False)


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Take the error of a call that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
