"""Endpoints and middleware, without a bus."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import pytest

from kitmsg import Context, Endpoint, chain, current, make_endpoint
from kitmsg.context import enter


def note(seen: list[str], word: str) -> Any:
    """Return a middleware that notes when it is entered and left."""

    def wrap(call: Endpoint[Any, Any]) -> Endpoint[Any, Any]:
        async def noted(ctx: Context, request: Any) -> Any:
            seen.append(f"{word} in")
            try:
                return await call(ctx, request)
            finally:
                seen.append(f"{word} out")

        return noted

    return wrap


async def echo(_: Context, request: Any) -> Any:
    return request


async def test_the_first_is_the_outermost() -> None:
    """Of two middlewares, the first given sees the call first and the result last."""
    seen: list[str] = []
    call = chain(note(seen, "a"), note(seen, "b"))(echo)
    assert await call(Context(), 5) == 5
    assert seen == ["a in", "b in", "b out", "a out"]


def test_an_empty_chain_is_nothing() -> None:
    """The endpoint comes back as it is."""
    assert chain()(echo) is echo


async def test_a_chain_is_a_middleware() -> None:
    """Chains can be chained."""
    seen: list[str] = []
    inner = chain(note(seen, "b"), note(seen, "c"))
    await chain(note(seen, "a"), inner)(echo)(Context(), 5)
    assert [s for s in seen if s.endswith("in")] == ["a in", "b in", "c in"]


@dataclass
class Pair:
    """Two numbers."""

    a: int
    b: int


class Adder:
    """A plain class."""

    async def add(self, a: int, b: int = 1) -> int:
        """Add."""
        return a + b

    async def add_pair(self, pair: Pair) -> int:
        """Add a pair."""
        return pair.a + pair.b

    async def named(self, ctx: Context, *, a: int) -> str:
        """Say where we are."""
        return f"{ctx.endpoint} {a}"

    def blocking(self, a: int) -> tuple[str, str]:
        """Say in which thread and turn we are."""
        return threading.current_thread().name, current().endpoint

    async def untyped(self, a) -> int:  # type: ignore[no-untyped-def]
        """Have no type."""
        return int(a)


async def test_make_endpoint() -> None:
    """A bound method takes its fields from the request."""

    @dataclass
    class Request:
        a: int
        b: int

    assert await make_endpoint(Adder().add)(Context(), Request(2, 3)) == 5
    assert await make_endpoint(Adder().add_pair)(Context(), Pair(2, 3)) == 5


async def test_make_endpoint_gives_the_context() -> None:
    """To the parameter that is annotated so."""
    call = make_endpoint(Adder().named)
    assert await call(Context(endpoint="a.b"), Pair(7, 0)) == "a.b 7"


async def test_a_plain_function_runs_in_a_thread() -> None:
    """With the context visible there."""
    enter(Context(endpoint="a.b"))
    thread, name = await make_endpoint(Adder().blocking)(current(), Pair(1, 0))
    assert thread != threading.current_thread().name
    assert name == "a.b"


def test_what_has_no_type_is_refused() -> None:
    """With a sentence that names the parameter."""
    with pytest.raises(TypeError, match=r"Adder\.untyped: parameter 'a' has no type"):
        make_endpoint(Adder().untyped)
