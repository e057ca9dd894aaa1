"""Counts of the calls that go to servers elsewhere: ``kitmsg_upstream_...``.

Around all attempts of a call, to a stream's end, below the middlewares: what a cache answers
or a breaker refuses never went there.  One object for the process, whose pages show it; the
turns of the service that stands for an upstream are ``kitmsg_server_...``, as everybody's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from time import perf_counter  # uvloop's own clock ticks in whole milliseconds
from typing import TYPE_CHECKING, Any, Final

from kitmsg.errors import Code, code_of
from kitmsg.metrics.calls import Calls
from kitmsg.metrics.exemplars import trace_of
from kitmsg.metrics.families import PROCESS
from kitmsg.tracing import current_headers
from kitmsg.tracing.ids import sampled_ids

if TYPE_CHECKING:
    from kitmsg.context import Context
    from kitmsg.endpoints import Endpoint

__all__ = ["UPSTREAMS", "counted"]

UPSTREAMS: Final = Calls("upstream")
"""The process's."""

PROCESS.register(UPSTREAMS.collect)


def counted(call: Endpoint[Any, Any], dotted: str) -> Endpoint[Any, Any]:
    """Return the endpoint of a method with each call counted.

    Args:
        call: The endpoint.
        dotted: Its name on the bus: the label.
    """

    async def run(ctx: Context, request: Any) -> Any:
        started = perf_counter()
        UPSTREAMS.in_flight += 1
        try:
            result = await call(ctx, request)
        except BaseException as exc:
            _end(ctx, dotted, started, exc)
            raise
        if isinstance(result, AsyncIterator):
            return _to_the_end(ctx, dotted, started, result)
        _end(ctx, dotted, started)
        return result

    return run


async def _to_the_end(
    ctx: Context, dotted: str, started: float, items: AsyncIterator[Any]
) -> AsyncIterator[Any]:
    error: BaseException | None = None
    try:
        async for item in items:
            yield item
    except BaseException as exc:
        error = exc
        raise
    finally:
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()
        _end(ctx, dotted, started, error)


def _end(
    ctx: Context, dotted: str, started: float, error: BaseException | None = None
) -> None:
    code = "ok"
    if isinstance(error, Exception):
        code = code_of(error).value
    elif error is not None:  # the caller gave up
        code = Code.CANCELLED.value
    UPSTREAMS.in_flight -= 1
    seconds = perf_counter() - started
    if UPSTREAMS.observe(dotted, code, seconds):
        UPSTREAMS.exemplify(dotted, code, seconds, _trace(ctx))


def _trace(ctx: Context) -> tuple[str, str] | None:
    """Return the ids of the call's own span, or of the trace that came; None for neither."""
    own = current_headers()
    if own:
        return sampled_ids(own)
    return None if ctx.message is None else trace_of(ctx.message)
