"""Adapters: a method called with the fields of its request."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import Callable  # noqa: TC003  # read from a signature
from typing import (
    Any,
)

import pytest

from kitmsg.context import Context
from kitmsg.schema import signature
from tests.schema.shapes import GREETER, Order


async def test_adapter_calls_the_method_with_the_fields():
    """Each shape of signature gets its arguments, and the context where it asks."""
    ctx = Context(endpoint="greeter.mixed")
    cases: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], Any]] = [
        (GREETER.hello, ("Ann", 2), {}, "Hello, Ann!Hello, Ann!"),
        (GREETER.place, (Order([]),), {}, Order([])),
        (GREETER.mixed, (Order([]), True), {}, "0 greeter.mixed True"),
        (GREETER.keywords, (), {"a": 3}, 32),
        (GREETER.nothing, (), {}, None),
    ]
    for method, args, kwargs, expected in cases:
        sig = signature(method)
        assert await sig.adapter(method)(ctx, sig.bind(*args, **kwargs)) == expected


async def test_adapter_passes_a_single_struct_beside_the_context():
    """The struct stays the request when only the context is with it."""

    async def f(ctx: Context, order: Order) -> str:
        return f"{ctx.endpoint} {order.note}"

    sig = signature(f)
    assert sig.request is Order
    ctx = Context(endpoint="e")
    assert await sig.adapter(f)(ctx, Order([], "n")) == "e n"

    async def g(order: Order, ctx: Context) -> str:
        return await f(ctx, order)

    async def h(*, order: Order, ctx: Context) -> str:
        return await f(ctx, order)

    for other in (g, h):
        assert await signature(other).adapter(other)(ctx, Order([], "n")) == "e n"


async def test_plain_function_runs_in_a_thread_with_the_context_variables():
    """Blocking code neither blocks the loop nor loses the context."""
    variable = contextvars.ContextVar("variable", default="")
    variable.set("seen")

    def f(x: int) -> tuple[str, bool]:
        return variable.get(), threading.current_thread() is threading.main_thread()

    sig = signature(f)
    assert await sig.adapter(f)(None, sig.bind(1)) == ("seen", False)


async def test_async_method_under_a_plain_decorator_is_awaited():
    """A wrapper that is not async itself gives the result, not a coroutine."""

    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            return function(*args)

        return wrapper

    @logged
    async def f(a: int) -> int:
        return a

    sig = signature(f)
    assert await sig.adapter(f)(None, sig.bind(3)) == 3


async def test_plain_function_that_raises_stop_iteration_is_answered():
    """The one exception a future cannot hold does not hang the caller."""

    def f() -> None:
        next(iter(()))

    sig = signature(f)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await asyncio.wait_for(sig.adapter(f)(None, sig.bind()), 5)
