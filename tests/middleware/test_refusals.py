"""Contract of all refusals: which part refused, for whom, when to come back, and a count."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kitmsg.bus.memory import MemoryBus
from kitmsg.context import Context
from kitmsg.errors import (
    Code,
    DeadlineExceeded,
    KitError,
    ResourceExhausted,
    Unavailable,
)
from kitmsg.metrics.resilience import RESILIENCE
from kitmsg.middleware import (
    adaptive_breaker,
    breaker,
    bulkhead,
    dedupe,
    hystrix,
    rate_limit,
    ratio_breaker,
)
from kitmsg.turnover import Turnover
from kitmsg.wire import IDEMPOTENCY_KEY

NAME = "a.b"
Refuse = Callable[[], Awaitable[Any]]


def now() -> float:
    return asyncio.get_running_loop().time()


async def slow(_ctx: Context, request: str) -> str:
    await asyncio.sleep(2.0)
    return request


async def down(_ctx: Context, _request: str) -> str:
    raise Unavailable("down")


def context(**facts: Any) -> Context:
    return Context(endpoint=NAME, **facts)


async def tripped(middleware: Any) -> None:
    """Call an endpoint that fails until it is not called any more."""
    call = middleware(down)
    for _ in range(200):
        try:
            await call(context(), "hi")
        except Unavailable as error:
            if str(error) != "down":
                raise


async def crowded(middleware: Any, **facts: Any) -> None:
    """Call an endpoint once while it has all the calls that it may have."""
    call = middleware(slow)
    await call(context(), "first, which shows how long it takes")
    running = asyncio.ensure_future(call(context(), "hi"))
    await asyncio.sleep(0)
    try:
        await call(context(**facts), "hi")
    finally:
        await running


async def repeated(middleware: Any) -> None:
    """Call an endpoint twice at once."""

    async def echo(_ctx: Context, request: str) -> str:
        return request

    call = middleware(echo)
    await call(context(), "hi")
    await call(context(), "hi")


async def without_store(make: Callable[[MemoryBus], Any]) -> None:
    """Call with an idempotency key while the bus is closed."""
    bus = MemoryBus()
    call = make(bus)(slow)
    await bus.close()
    await call(context(metadata={IDEMPOTENCY_KEY: "k"}), "hi")


async def twice_at_once(**facts: Any) -> None:
    """Call with the key of a call that still runs."""
    bus = MemoryBus()
    call = dedupe(60, store=bus, result=str)(slow)
    key = {IDEMPOTENCY_KEY: "k"}
    running = asyncio.ensure_future(call(context(metadata=key), "hi"))
    await asyncio.sleep(0.1)
    try:
        await call(context(metadata=key, deadline=now() + 1.0), "hi")
    finally:
        await running
        await bus.close()


async def shared() -> None:
    """Call twice what a fleet may call once."""
    bus = MemoryBus()
    try:
        await repeated(rate_limit(1, burst=1, shared="x", store=bus))
    finally:
        await bus.close()


REFUSALS: dict[str, tuple[str, Refuse]] = {
    "breaker": ("breaker", lambda: tripped(breaker(2))),
    "ratio_breaker": ("ratio_breaker", lambda: tripped(ratio_breaker(minimum=2))),
    "hystrix, open": ("hystrix", lambda: tripped(hystrix(minimum=2))),
    "hystrix, full": (
        "hystrix",
        lambda: crowded(hystrix(concurrency=1, timeout=9.0)),
    ),
    "adaptive_breaker": ("adaptive_breaker", lambda: tripped(adaptive_breaker())),
    "bulkhead, full": ("bulkhead", lambda: crowded(bulkhead(1))),
    "bulkhead, late": (
        "bulkhead",
        lambda: crowded(bulkhead(1, queue=1), deadline=now() + 2.5),
    ),
    "rate_limit": ("rate_limit", lambda: repeated(rate_limit(1))),
    "rate_limit, waiting": (
        "rate_limit",
        lambda: repeated(_hurried(rate_limit(1, wait=True))),
    ),
    "rate_limit, shared": ("rate_limit", shared),
    "dedupe, running": ("dedupe", twice_at_once),
    "dedupe, no store": (
        "dedupe",
        lambda: without_store(lambda bus: dedupe(60, store=bus, result=str)),
    ),
}


def _hurried(middleware: Any) -> Any:
    """Have calls that must start at once."""

    def wrap(call: Any) -> Any:
        limited = middleware(call)

        async def hurried(ctx: Context, request: str) -> Any:
            return await limited(ctx.evolve(deadline=now() + 0.1), request)

        return hurried

    return wrap


@pytest.mark.parametrize("case", REFUSALS)
async def test_a_refusal_says_who_for_whom_and_when(case: str) -> None:
    """In its text and its fields; a metric counts it once."""
    part, refuse = REFUSALS[case]
    before = RESILIENCE.count(part, NAME)
    with pytest.raises(KitError) as caught:
        await refuse()
    error = caught.value
    assert str(error).startswith(f"{part}: ")
    assert NAME in str(error)
    assert error.code in (
        Code.UNAVAILABLE,
        Code.RESOURCE_EXHAUSTED,
        Code.DEADLINE_EXCEEDED,
    )
    assert error.retry_after is not None
    assert 0 < error.retry_after <= 60
    if case != "dedupe, running":  # whose work is done, by the first call
        assert error.refused == NAME
    assert RESILIENCE.count(part, NAME) == before + 1


@pytest.mark.parametrize(
    "middleware", [bulkhead(1), hystrix(concurrency=1, timeout=9.0)]
)
async def test_when_a_place_comes_free_is_known_by_the_calls_before(
    middleware: Any,
) -> None:
    """They took two seconds each."""
    with pytest.raises(ResourceExhausted) as caught:
        await crowded(middleware)
    assert caught.value.retry_after == pytest.approx(2.0)


async def test_who_waits_is_counted_too() -> None:
    """Those ahead have their turns first."""
    call = bulkhead(2, queue=3)(slow)
    await call(context(), "hi")
    running = [asyncio.ensure_future(call(context(), "hi")) for _ in range(5)]
    await asyncio.sleep(0)
    with pytest.raises(ResourceExhausted) as caught:
        await call(context(), "hi")
    assert caught.value.retry_after == pytest.approx(2.0 * 4 / 2)
    await asyncio.gather(*running)


async def test_a_deadline_in_the_queue_names_the_endpoint() -> None:
    """Or nobody knows whose queue it was."""
    with pytest.raises(DeadlineExceeded, match=r"the deadline of a\.b$"):
        await crowded(bulkhead(1, queue=1), deadline=now() + 2.5)


def test_the_turnover_follows_the_calls() -> None:
    """By a moving average; before any call a tenth of a second."""
    turnover = Turnover(4)
    assert turnover.wait() == pytest.approx(0.025)
    turnover.took(1.0)
    assert turnover.wait() == pytest.approx(0.25)
    assert turnover.wait(ahead=7) == pytest.approx(2.0)
    for _ in range(50):
        turnover.took(3.0)
    assert turnover.wait() == pytest.approx(0.75, rel=0.01)
