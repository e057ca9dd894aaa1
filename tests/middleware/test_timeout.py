"""Give up on a call after a while."""

from __future__ import annotations

import asyncio

import pytest

from kitmsg.context import Context, current, enter
from kitmsg.errors import Code, DeadlineExceeded, KitError
from kitmsg.middleware import timeout


async def never(_ctx: Context, _request: str) -> str:
    await asyncio.Event().wait()
    return ""


async def deadline(ctx: Context, _request: str) -> float | None:
    return ctx.deadline


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_slow_call_fails_with_deadline_exceeded() -> None:
    """A call that never answers ends with the deadline error, at the deadline."""
    with pytest.raises(
        DeadlineExceeded, match=r"no response within 3600\.000 s"
    ) as hit:
        await timeout(3600)(never)(Context(), "hi")
    assert now() == pytest.approx(3600)
    assert hit.value.code is Code.DEADLINE_EXCEEDED
    assert isinstance(hit.value, KitError)
    assert isinstance(hit.value, TimeoutError)


async def test_endpoints_own_timeout_passes_through() -> None:
    """A TimeoutError from inside, before time is up, is not renamed."""

    async def impatient(_ctx: Context, _request: str) -> str:
        raise TimeoutError("socket")

    with pytest.raises(TimeoutError, match="socket") as caught:
        await timeout(60.0)(impatient)(Context(), "hi")
    assert not isinstance(caught.value, DeadlineExceeded)


async def test_endpoint_sees_the_deadline() -> None:
    """The endpoint's context has the deadline; the caller's is not changed."""
    ctx = Context()
    assert await timeout(60.0)(deadline)(ctx, "") == now() + 60.0
    assert ctx.deadline is None


async def test_nearer_deadline_wins() -> None:
    """A deadline already in the context is kept when it is the nearer one."""
    near = now() + 1.0
    assert await timeout(60.0)(deadline)(Context(deadline=near), "") == near


async def test_nested_calls_inherit_it() -> None:
    """Within a turn the current context has the nearer deadline, and only there."""

    async def nested(_ctx: Context, _request: str) -> float | None:
        return current().deadline

    ctx = Context(deadline=100.0)
    enter(ctx)
    assert await timeout(2.0)(nested)(ctx, "") == now() + 2.0
    assert current() is ctx


async def test_a_client_does_not_become_the_current_turn() -> None:
    """A context that is not the current one is not made it."""

    async def nested(_ctx: Context, _request: str) -> Context:
        return current()

    turn = Context(endpoint="orders.place")
    enter(turn)
    assert await timeout(2.0)(nested)(Context(), "") is turn


async def test_a_call_after_the_deadline_is_not_started() -> None:
    """Work whose time is over is refused before it runs."""
    started: list[str] = []

    async def work(_ctx: Context, request: str) -> None:
        started.append(request)

    with pytest.raises(DeadlineExceeded, match="had passed before the call"):
        await timeout(60.0)(work)(Context(deadline=now() - 1.0), "hi")
    assert started == []


@pytest.mark.parametrize("seconds", [0, -1.5, float("nan")])
def test_refuses_non_positive_seconds(seconds: float) -> None:
    """Zero or less is a programming error, told at once and with the value."""
    with pytest.raises(ValueError, match=f"not {seconds!r}"):
        timeout(seconds)
