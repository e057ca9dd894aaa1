"""So many calls a second, in the whole fleet."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import kitmsg
from kitmsg.bus.memory import MemoryBus
from kitmsg.bus.nats import NatsBus
from kitmsg.context import Context
from kitmsg.errors import DeadlineExceeded, InvalidArgument, ResourceExhausted
from kitmsg.jetstream.memory import MemoryJetStream
from kitmsg.jetstream.opening import jetstream_of
from kitmsg.leases import LIMITS
from kitmsg.middleware import rate_limit

if TYPE_CHECKING:
    from kitmsg.bus import Bus
    from kitmsg.bus.embedded import EmbeddedServer
    from kitmsg.endpoints import Endpoint, Middleware


async def echo(_ctx: Context, request: str) -> str:
    return request


def now() -> float:
    return asyncio.get_running_loop().time()


class Instance:
    """An instance with a demand: calls at a steady rate, and how many went through."""

    def __init__(self, limit: Middleware, per_second: float) -> None:
        self.call: Endpoint[str, str] = limit(echo)
        self.every = 1 / per_second
        self.passed: list[float] = []
        self.waits: list[float] = []  # of the calls that were refused

    async def run(self, until: float) -> None:
        """Call at the rate until then; what was held up is made up for."""
        at = now()
        while at < until:
            try:
                await self.call(Context(), "hi")
                self.passed.append(now())
            except ResourceExhausted as error:
                self.waits.append(error.retry_after or 0.0)
            at += self.every
            await asyncio.sleep(max(0.0, at - now()))

    @property
    def refused(self) -> int:
        return len(self.waits)


async def fleet(
    buses: list[Bus], demands: list[float], limit: float = 1000.0
) -> list[Instance]:
    """Return instances that ran for ten seconds against one limit."""
    instances = [
        Instance(rate_limit(limit, shared="payments", store=bus), demand)
        for bus, demand in zip(buses, demands, strict=True)
    ]
    until = now() + 10
    await asyncio.gather(*[one.run(until) for one in instances])
    return instances


async def test_eight_instances_keep_one_limit(memory_bus: MemoryBus) -> None:
    """Within 5 % over ten seconds, whatever they want, and each gets some."""
    instances = await fleet([memory_bus] * 8, [160.0] * 8)
    assert 9_500 <= sum(len(one.passed) for one in instances) <= 10_500
    assert min(len(one.passed) for one in instances) > 800
    assert min(wait for one in instances for wait in one.waits) > 0


async def test_instances_may_want_different_shares(memory_bus: MemoryBus) -> None:
    """Those that want little get it, the one that wants all gets the rest."""
    demands = [400.0, *[8.0] * 7]
    instances = await fleet([memory_bus] * 8, demands, 200)
    assert 1_900 <= sum(len(one.passed) for one in instances) <= 2_100
    assert len(instances[0].passed) > 1_300
    assert sum(len(one.passed) for one in instances[1:]) > 120


async def test_under_the_limit_nothing_is_refused(memory_bus: MemoryBus) -> None:
    """Eight instances that together want nine tenths of it."""
    instances = await fleet([memory_bus] * 8, [22.0] * 8, 200)
    assert sum(one.refused for one in instances) == 0


async def test_a_small_limit_is_kept(memory_bus: MemoryBus) -> None:
    """Five a second for four instances: no token is lost in a lease nobody uses."""
    limit = [rate_limit(5, shared="small", store=memory_bus) for _ in range(4)]
    instances = [Instance(one, 20) for one in limit]
    until = now() + 20
    await asyncio.gather(*[one.run(until) for one in instances])
    assert 95 <= sum(len(one.passed) for one in instances) <= 105


async def test_an_instance_that_leaves_makes_room(memory_bus: MemoryBus) -> None:
    """What it leased is lost to nobody for long."""
    first = Instance(rate_limit(100, shared="x", store=memory_bus), 500)
    await first.run(now() + 2)
    second = Instance(rate_limit(100, shared="x", store=memory_bus), 500)
    await second.run(now() + 10)
    assert 950 <= len(second.passed) <= 1050


async def test_limits_of_two_names_are_two(memory_bus: MemoryBus) -> None:
    """And so are those of two keys under one name."""
    one = Instance(rate_limit(100, shared="one", store=memory_bus), 300)
    two = Instance(rate_limit(100, shared="two", store=memory_bus), 300)
    until = now() + 5
    await asyncio.gather(one.run(until), two.run(until))
    assert len(one.passed) > 450
    assert len(two.passed) > 450
    by_caller = rate_limit(
        10, burst=10, shared="keyed", store=memory_bus, key=lambda _, request: request
    )
    passed = await both(by_caller(echo), by_caller(echo))
    assert passed == {"ann": 10, "bob": 10}


async def both(*calls: Endpoint[str, str]) -> dict[str, int]:
    """Return how many of 20 calls at once, over two instances, each key may do."""
    passed = {"ann": 0, "bob": 0}
    for _ in range(10):
        for call in calls:
            for who in passed:
                with contextlib.suppress(ResourceExhausted):
                    passed[await call(Context(), who)] += 1
    return passed


async def test_a_refusal_names_the_fleet_and_when_to_come_back(
    memory_bus: MemoryBus,
) -> None:
    """At that time a call goes through, on any instance."""
    limit = rate_limit(1, burst=1, shared="one", store=memory_bus)
    call, other = limit(echo), limit(echo)
    await call(Context(endpoint="a.b"), "hi")
    with pytest.raises(
        ResourceExhausted, match="a.b over the limit of 1 calls a second for the fleet"
    ) as caught:
        await other(Context(endpoint="a.b"), "hi")
    assert caught.value.refused == "a.b"
    assert caught.value.retry_after is not None
    await asyncio.sleep(caught.value.retry_after)
    assert await other(Context(), "hi") == "hi"


async def test_calls_may_wait_in_the_order_of_arrival(memory_bus: MemoryBus) -> None:
    """At the limit's pace; one that would miss its deadline is refused."""
    call = rate_limit(10, burst=1, shared="w", store=memory_bus, wait=True)(echo)
    order: list[int] = []

    async def one(number: int) -> None:
        await call(Context(deadline=now() + 5), "hi")
        order.append(number)

    began = now()
    await asyncio.gather(*[one(i) for i in range(11)])
    assert order == list(range(11))
    assert 1.0 <= now() - began <= 1.6
    calls = [call(Context(deadline=now() + 0.5), "hi") for _ in range(10)]
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(end) for end in ended} == {str, ResourceExhausted}


async def test_without_the_store_each_has_its_share(
    memory_bus: MemoryBus, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the members that were seen last; it is said once, and so is its end."""
    caplog.set_level(logging.INFO, logger="kitmsg.middleware.rate_limit")
    instances = [
        Instance(rate_limit(100, shared="x", store=memory_bus), 50) for _ in range(4)
    ]
    until = now() + 2
    await asyncio.gather(*[one.run(until) for one in instances])
    memory_bus.disconnect()
    until, before = now() + 10, sum(len(one.passed) for one in instances)
    await asyncio.gather(*[one.run(until) for one in instances])
    alone = sum(len(one.passed) for one in instances) - before
    assert 950 <= alone <= 1_050
    memory_bus.reconnect()
    until = now() + 35
    await asyncio.gather(*[one.run(until) for one in instances])
    said = [r.getMessage() for r in caplog.records]
    assert sum("no store, so this instance allows 25 a second" in s for s in said) == 4
    assert sum("the store answers again" in s for s in said) == 4


async def test_a_store_that_never_was_leaves_the_whole_limit() -> None:
    """Nobody else was ever seen; the service works."""
    bus = MemoryBus()
    bus.disconnect()
    alone = Instance(rate_limit(100, shared="x", store=bus), 300)
    await alone.run(now() + 10)
    assert 950 <= len(alone.passed) <= 1050


async def test_garbage_in_the_store_is_a_full_limit(memory_bus: MemoryBus) -> None:
    """And so is a record of a time that is far ahead."""
    bucket = await jetstream_of(memory_bus).key_value(LIMITS)
    for record in (
        b"\xc1garbage",
        b"",
        b"\x92\xcb\x7f\xef\xff\xff\xff\xff\xff\xff\x80",
    ):
        await bucket.put("x", record)
        call = rate_limit(10, burst=2, shared="x", store=memory_bus)(echo)
        for _ in range(20):
            try:
                await call(Context(), "hi")
            except ResourceExhausted as error:
                await asyncio.sleep(error.retry_after or 0)
            else:
                break
        else:
            pytest.fail("nothing goes through")


async def test_a_silent_store_costs_no_more_than_the_deadline(
    memory_bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call never began."""

    async def never(*_: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(MemoryJetStream, "key_value", never)
    call = rate_limit(10, shared="x", store=memory_bus)(echo)
    with pytest.raises(DeadlineExceeded, match="no answer about the limit x") as caught:
        await call(Context(deadline=now() + 0.2, endpoint="a.b"), "hi")
    assert caught.value.refused == "a.b"


async def test_clocks_of_instances_need_not_agree(memory_bus: MemoryBus) -> None:
    """A record from a clock that is ahead is no reason to give tokens away."""
    bucket = await jetstream_of(memory_bus).key_value(LIMITS)
    await bucket.put("x", msgspec.msgpack.encode((now() + 0.9, {})))
    one = Instance(rate_limit(10, shared="x", store=memory_bus), 100)
    await one.run(now() + 2)
    assert len(one.passed) <= 14


async def test_by_hand_a_bus_is_needed() -> None:
    """It is said when the endpoint is wrapped, and what to do."""
    with pytest.raises(ValueError, match=r"no bus here: give one, store=bus"):
        rate_limit(10, shared="x")(echo)
    with pytest.raises(InvalidArgument, match="is no key"):
        rate_limit(10, shared="a b")


class Pay(kitmsg.Service):
    """Takes money."""

    @kitmsg.endpoint(middleware=[rate_limit(10, burst=3, shared="pay")])
    async def take(self, cents: int) -> int:
        """Take it."""
        return cents


async def test_instances_of_a_service_share_by_name(kit: kitmsg.Kit) -> None:
    """The bus is the one they are served on."""
    for _ in range(3):
        await kit.serve(Pay())
    client = kit.client(Pay)
    ended = await asyncio.gather(
        *[client.take(1) for _ in range(30)], return_exceptions=True
    )
    assert ended.count(1) == 3


async def test_clients_share_by_name(kit: kitmsg.Kit) -> None:
    """A limit may stand around what a fleet calls."""
    await kit.serve(Pay())
    limit = rate_limit(10, burst=2, shared="callers")
    clients = [kit.client(Pay, middleware=[limit]) for _ in range(3)]
    ended = await asyncio.gather(
        *[client.take(1) for client in clients], return_exceptions=True
    )
    assert ended.count(1) == 2


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_real_store_keeps_the_limit(
    nats_server: EmbeddedServer, anyio_backend: str
) -> None:
    """Eight connections, ten seconds of real time."""
    buses: list[Bus] = [await NatsBus.connect(nats_server.url) for _ in range(8)]
    start = now()
    instances = await fleet(buses, [200.0] * 8)
    seconds = max(
        10.0, now() - start
    )  # a machine that is slow takes longer for its calls
    assert 9_500 <= sum(len(one.passed) for one in instances) <= 1_050 * seconds
    for bus in buses:
        await bus.close()
