"""Contract of all limiters: one table of calls and times, run on each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg.context import Context
from kitmsg.errors import ResourceExhausted
from kitmsg.middleware import rate_limit
from kitmsg_gateways.edge.limits import RateLimit

if TYPE_CHECKING:
    from kitmsg.bus.memory import MemoryBus
    from kitmsg.endpoints import Middleware

RATE = 8.0  # so that an interval is a number without rounding
BURST = 5
LAG = 2  # calls that a fleet may be behind, whose tokens are leased

Call = Callable[[Context, str], Awaitable[str]]
Make = Callable[..., Call]


def now() -> float:
    return asyncio.get_running_loop().time()


async def echo(_ctx: Context, request: str) -> str:
    return request


def wrapped(**more: Any) -> Make:
    """Return what makes a call with a limit of the middleware."""

    def make(bus: MemoryBus, **options: Any) -> Call:
        given = {"shared": "x", "store": bus} if more.get("shared") else {}
        limit: Middleware = rate_limit(
            RATE,
            BURST,
            **{**more, **given, **options},
        )
        return limit(echo)

    return make


def at_a_door(_bus: MemoryBus) -> Call:
    """Return a call with the limit of a gateway's client."""
    limit = RateLimit(RATE, BURST)

    async def call(_ctx: Context, request: str) -> str:
        limit.check("10.0.0.5", now())
        return request

    return call


LIMITERS: dict[str, Make] = {
    "of an instance": wrapped(),
    "of a key": wrapped(key=lambda _ctx, request: request),
    "of the fleet": wrapped(shared=True),
    "of the fleet, of a key": wrapped(shared=True, key=lambda _ctx, request: request),
    "of a door": at_a_door,
}
WAITING = [name for name in LIMITERS if name != "of a door"]
every = pytest.mark.parametrize("name", LIMITERS)
waiting = pytest.mark.parametrize("name", WAITING)

# Each step: seconds that pass first, calls, and how many are let through.
TABLE = {
    "a burst goes through, and no more": [(0.0, 20, 5)],
    "then one for each interval": [(0.0, 20, 5), *[(0.125, 3, 1)] * 20],
    "a part of an interval is none": [(0.0, 20, 5), (0.0625, 3, 0), (0.0625, 3, 1)],
    "a quiet time fills the bucket": [(0.0, 20, 5), (0.625, 20, 5)],
    "and not more": [(0.0, 20, 5), (3600.0, 20, 5)],
    "under the limit nothing is refused": [(0.125, 1, 1)] * 50,
}


async def accepted(call: Call, calls: int) -> int:
    """Return how many calls at this moment are let through."""
    count = 0
    for _ in range(calls):
        try:
            await call(Context(endpoint="a.b"), "hi")
        except ResourceExhausted:
            continue
        count += 1
    return count


@every
@pytest.mark.parametrize("steps", TABLE.values(), ids=list(TABLE))
async def test_the_table_holds(
    name: str, steps: list[tuple[float, int, int]], memory_bus: MemoryBus
) -> None:
    """One limiter is like the other, whoever counts."""
    call = LIMITERS[name](memory_bus)
    lag = LAG if "fleet" in name else 0
    behind = 0
    for seconds, calls, through in steps:
        await asyncio.sleep(seconds)
        behind += through - await accepted(call, calls)
        assert 0 <= behind <= lag


@every
async def test_over_a_long_time_the_average_is_the_limit(
    name: str, memory_bus: MemoryBus
) -> None:
    """Within five per cent, with a burst at the start."""
    call, total = LIMITERS[name](memory_bus), 0
    for _ in range(2000):
        total += await accepted(call, 1)
        await asyncio.sleep(0.01)
    assert total - BURST == pytest.approx(RATE * 20, rel=0.05)


@every
async def test_a_refusal_says_when_a_call_goes_through(
    name: str, memory_bus: MemoryBus
) -> None:
    """At that time, and that it is over which limit."""
    call = LIMITERS[name](memory_bus)
    await accepted(call, BURST)
    with pytest.raises(ResourceExhausted, match="8 ") as caught:
        await call(Context(endpoint="a.b"), "hi")
    assert caught.value.retry_after is not None
    assert 0 < caught.value.retry_after <= 0.4
    await asyncio.sleep(caught.value.retry_after)
    assert await call(Context(), "hi") == "hi"


@waiting
async def test_calls_wait_in_the_order_of_arrival(
    name: str, memory_bus: MemoryBus
) -> None:
    """At the pace of the limit."""
    call = LIMITERS[name](memory_bus, wait=True)
    done: list[int] = []

    async def one(number: int) -> None:
        await call(Context(), "hi")
        done.append(number)

    began = now()
    await asyncio.gather(*map(one, range(BURST + 10)))
    assert done == list(range(BURST + 10))
    assert 1.2 <= now() - began <= 1.7


@waiting
async def test_nobody_waits_in_vain(name: str, memory_bus: MemoryBus) -> None:
    """A call whose deadline would pass is refused at once, and takes no place."""
    call = LIMITERS[name](memory_bus, wait=True)
    for _ in range(BURST):
        await call(Context(), "hi")
    began = now()
    with pytest.raises(ResourceExhausted):
        await call(
            Context(deadline=began + 0.01), "in vain" if "key" not in name else "hi"
        )
    assert now() - began < 0.01
    await call(Context(deadline=began + 1.0), "hi")
    assert now() - began <= 0.4


@waiting
async def test_what_waits_may_be_cancelled(name: str, memory_bus: MemoryBus) -> None:
    """Those behind it go on."""
    call = LIMITERS[name](memory_bus, wait=True)
    for _ in range(BURST):
        await call(Context(), "hi")
    tasks = [asyncio.ensure_future(call(Context(), "hi")) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(end) for end in ended] == [str, asyncio.CancelledError, str]
