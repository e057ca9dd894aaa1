"""So many calls a second."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from kitmsg.context import Context
from kitmsg.errors import ResourceExhausted
from kitmsg.metrics.resilience import RESILIENCE
from kitmsg.middleware import rate_limit


async def echo(_ctx: Context, request: str) -> str:
    return request


def now() -> float:
    return asyncio.get_running_loop().time()


async def accepted(call: Any, tries: int, ctx: Context | None = None) -> int:
    """Return how many of `tries` calls at this moment are let through."""
    count = 0
    for _ in range(tries):
        try:
            await call(ctx or Context(), "hi")
        except ResourceExhausted:
            continue
        count += 1
    return count


async def test_lets_a_burst_through_and_no_more() -> None:
    """A second's worth may come at once by default; the rest is refused."""
    assert await accepted(rate_limit(10)(echo), 50) == 10


async def test_keeps_the_rate_over_time() -> None:
    """Over a long time the average is the limit, whatever the burst."""
    call = rate_limit(10, burst=3)(echo)
    total = 0
    for _ in range(1000):
        total += await accepted(call, 2)
        await asyncio.sleep(0.01)
    assert total == 3 + 99


async def test_a_quiet_time_fills_the_bucket_and_not_more() -> None:
    """After an hour without calls there is one burst, not an hour's worth."""
    call = rate_limit(10, burst=5)(echo)
    await accepted(call, 50)
    await asyncio.sleep(3600)
    assert await accepted(call, 50) == 5


async def test_says_when_to_come_back() -> None:
    """`retry_after` is the time at which the call would be let through."""
    call = rate_limit(0.5, burst=1)(echo)
    await call(Context(), "hi")
    with pytest.raises(ResourceExhausted, match=r"limit of 0\.5 calls") as caught:
        await call(Context(), "hi")
    assert caught.value.retry_after == pytest.approx(2.0)
    await asyncio.sleep(2.0)
    assert await call(Context(), "hi") == "hi"


async def test_waits_in_order_when_told() -> None:
    """With `wait` the calls are spread over time, first come first served."""
    call = rate_limit(2, burst=1, wait=True)(echo)
    done: list[tuple[str, float]] = []

    async def caller(name: str) -> None:
        await call(Context(), name)
        done.append((name, now()))

    await asyncio.gather(*map(caller, "abcd"))
    assert [name for name, _ in done] == list("abcd")
    assert [at for _, at in done] == pytest.approx([0.0, 0.5, 1.0, 1.5])


async def test_does_not_wait_in_vain() -> None:
    """A call whose deadline would pass is refused at once and takes no place."""
    call = rate_limit(1, burst=1, wait=True)(echo)
    await call(Context(), "first")
    with pytest.raises(ResourceExhausted):
        await call(Context(deadline=now() + 0.9), "in vain")
    assert now() == 0.0
    await call(Context(deadline=now() + 1.1), "in time")
    assert now() == pytest.approx(1.0)


async def test_each_key_has_a_limit_of_its_own() -> None:
    """One caller's noise does not use up another's share."""
    call = rate_limit(10, burst=2, key=lambda ctx, _request: ctx.principal)(echo)
    assert await accepted(call, 9, Context(principal="ann")) == 2
    assert await accepted(call, 9, Context(principal="bob")) == 2


async def test_keys_are_forgotten_when_they_are_quiet() -> None:
    """A million callers over the day do not stay in memory, and limits still hold."""
    module = sys.modules["kitmsg.middleware.ratelimit"]
    buckets = module.Buckets(10.0, 1.0)
    for second in range(200):
        for caller in range(100):
            buckets.take((second, caller), float(second))
            # Never forgotten while it is in use.
            assert buckets.delay((second, 0), second) == pytest.approx(0.1)
    assert len(buckets._full_at) <= 1024


async def test_endpoints_are_limited_one_by_one() -> None:
    """Each endpoint that one `rate_limit` wraps has its own bucket."""
    limit = rate_limit(1)
    first, second = limit(echo), limit(echo)
    assert await accepted(first, 5) == 1
    assert await accepted(second, 5) == 1


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_refuses_a_rate_that_is_none(rate: float) -> None:
    """Zero or less is a programming error, told with the value."""
    with pytest.raises(ValueError, match=f"per_second must be positive, not {rate!r}"):
        rate_limit(rate)


def test_refuses_an_empty_burst() -> None:
    """A bucket without room would let nothing through."""
    with pytest.raises(ValueError, match="burst must be at least 1, not 0"):
        rate_limit(1, burst=0)


async def test_a_refusal_tells_who_for_whom_and_when() -> None:
    """Text, time, the mark that nothing was sent, and a count."""

    async def answer(_ctx: Context, request: str) -> str:
        return request

    call = rate_limit(2, burst=1)(answer)
    before = RESILIENCE.count("rate_limit", "a.b")
    await call(Context(endpoint="a.b"), "hi")
    with pytest.raises(ResourceExhausted) as caught:
        await call(Context(endpoint="a.b"), "hi")
    assert str(caught.value) == "rate_limit: a.b over the limit of 2 calls a second"
    assert caught.value.retry_after == pytest.approx(0.5)
    assert caught.value.refused == "a.b"
    assert RESILIENCE.count("rate_limit", "a.b") == before + 1
