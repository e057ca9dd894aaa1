"""A second answer for a call that failed."""

from __future__ import annotations

import pytest

from kitmsg.context import Context
from kitmsg.errors import Code, NotFound, Unavailable
from kitmsg.middleware import fallback


async def down(_ctx: Context, _request: str) -> str:
    raise Unavailable("down")


async def gone(_ctx: Context, _request: str) -> str:
    raise NotFound("gone")


async def test_a_value_stands_in() -> None:
    """What is not callable is the result."""
    assert await fallback("later")(down)(Context(), "hi") == "later"


async def test_another_endpoint_stands_in() -> None:
    """It gets the same context and request."""
    seen: list[tuple[Context, str]] = []

    async def other(ctx: Context, request: str) -> str:
        seen.append((ctx, request))
        return "other"

    ctx = Context(endpoint="a.b")
    assert await fallback(other)(down)(ctx, "hi") == "other"
    assert seen == [(ctx, "hi")]


async def test_an_answer_needs_none() -> None:
    """An error of the business is the answer, unless its code is named."""
    with pytest.raises(NotFound):
        await fallback("x")(gone)(Context(), "hi")
    assert await fallback("x", on={Code.NOT_FOUND})(gone)(Context(), "hi") == "x"


async def test_when_both_fail_both_are_told() -> None:
    """The second error is raised, and the first is its context."""
    with pytest.raises(NotFound) as caught:
        await fallback(gone)(down)(Context(), "hi")
    assert isinstance(caught.value.__context__, Unavailable)
