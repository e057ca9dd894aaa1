"""A second answer for a call that failed: a value, or another endpoint."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

from kitmsg.context import Context
from kitmsg.endpoints import Middleware
from kitmsg.errors import Code, code_of
from kitmsg.metrics.resilience import RESILIENCE

if TYPE_CHECKING:
    from kitmsg.endpoints import Endpoint, Req, Resp

__all__ = ["fallback"]

_PASSES: Final = frozenset(
    {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED}
)


def fallback(instead: Any, *, on: Collection[Code] = _PASSES) -> Middleware:
    """Answer with something else when a call fails with one of the codes `on`.

    An error of the second endpoint is raised with the first as its ``__context__``.  A
    call that timed out has no time left for another endpoint: put a shorter `timeout`
    inside.

    Args:
        instead: The result, or an endpoint that is called with the same context and
            request; anything callable is taken for an endpoint.
        on: Codes that it stands in for.
    """
    codes = frozenset(on)

    def wrap(call: Endpoint[Req, Resp], /) -> Endpoint[Req, Resp]:
        async def saved(ctx: Context, request: Req) -> Resp:
            try:
                return await call(ctx, request)
            except Exception as error:
                if code_of(error) not in codes:
                    raise
                RESILIENCE.done("fallback", ctx.endpoint)
                result: Resp = (
                    await instead(ctx, request) if callable(instead) else instead
                )
                return result

        return saved

    return wrap
