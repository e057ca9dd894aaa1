"""Counts of the calls that go to servers elsewhere: ``kitmsg_upstream_...``.

Around all attempts of a call, to a stream's end, below the middlewares: what a cache answers
or a breaker refuses never went there.  One object for the process, whose pages show it; the
turns of the service that stands for an upstream are ``kitmsg_server_...``, as everybody's.
"""

from __future__ import annotations

from functools import partial
from time import perf_counter  # uvloop's own clock ticks in whole milliseconds
from typing import TYPE_CHECKING, Any, Final

from kitmsg.errors import Code, code_of
from kitmsg.metrics.calls import Calls
from kitmsg.metrics.exemplars import trace_of
from kitmsg.metrics.families import PROCESS
from kitmsg.tracing import current_headers
from kitmsg.tracing.ids import sampled_ids
from kitmsg_gateways.upstream.hooks import told_of_its_end

if TYPE_CHECKING:
    from collections.abc import Callable

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

    def begin(ctx: Context) -> Callable[[BaseException | None], None]:
        UPSTREAMS.in_flight += 1
        return partial(_end, ctx, dotted, perf_counter())

    return told_of_its_end(call, begin)


def _end(
    ctx: Context, dotted: str, started: float, error: BaseException | None
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
