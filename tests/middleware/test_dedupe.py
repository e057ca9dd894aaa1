"""A call runs once in the fleet, however often it is sent."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import kitmsg
from kitmsg.answers import ANSWERS
from kitmsg.auth import Principal
from kitmsg.bus.nats import NatsBus
from kitmsg.bus.reach import Site, at_site
from kitmsg.context import Context
from kitmsg.errors import (
    Aborted,
    Code,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from kitmsg.jetstream.opening import jetstream_of
from kitmsg.middleware import dedupe, retry
from kitmsg.wire import IDEMPOTENCY_KEY

if TYPE_CHECKING:
    from kitmsg.bus import Bus
    from kitmsg.bus.embedded import EmbeddedServer
    from kitmsg.bus.memory import MemoryBus
    from kitmsg.endpoints import Endpoint


@dataclass
class Receipt:
    """A payment."""

    number: int
    note: bytes


class Declined(kitmsg.BusinessError):
    """Declined."""

    code = Code.FAILED_PRECONDITION
    template = "card {card} was declined"
    card: str


class Till:
    """Carries out payments; each instance may fail or take its time."""

    def __init__(self) -> None:
        self.runs = 0
        self.gate: asyncio.Event | None = None
        self.error: BaseException | None = None

    async def pay(self, ctx: Context, request: str) -> Receipt:
        self.runs += 1
        number = self.runs
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return Receipt(number, request.encode())


def now() -> float:
    return asyncio.get_running_loop().time()


def context(key: str = "k", **facts: Any) -> Context:
    return Context(endpoint="till.pay", metadata={IDEMPOTENCY_KEY: key}, **facts)


def around(till: Till, bus: Bus, **options: Any) -> Endpoint[str, Receipt]:
    with at_site(Site(bus=bus, result=Receipt, raises=(Declined,))):
        return dedupe(**options)(till.pay)


@pytest.fixture
def till() -> Till:
    return Till()


async def test_the_second_gets_the_answer_of_the_first(
    memory_bus: MemoryBus, till: Till
) -> None:
    """On another instance too, as the endpoint's own type."""
    first, second = around(till, memory_bus), around(till, memory_bus)
    assert await first(context(), "a") == Receipt(1, b"a")
    assert await first(context(), "a") == Receipt(1, b"a")
    assert await second(context(), "a") == Receipt(1, b"a")
    assert till.runs == 1


async def test_other_keys_and_no_key_run(memory_bus: MemoryBus, till: Till) -> None:
    """Another caller's equal key is another, and so is another endpoint's."""
    call = around(till, memory_bus)
    await call(context("one"), "a")
    await call(context("two"), "a")
    await call(context("one", principal=Principal("ann", "jwt")), "a")
    await call(context("one").evolve(endpoint="till.refund"), "a")
    await call(Context(endpoint="till.pay"), "a")
    await call(Context(endpoint="till.pay"), "a")
    assert till.runs == 6


async def test_an_answer_is_kept_for_its_window(
    memory_bus: MemoryBus, till: Till
) -> None:
    """Counted from the end of the call."""
    call = around(till, memory_bus, window=60)
    await call(context(), "a")
    await asyncio.sleep(59)
    await call(context(), "a")
    assert till.runs == 1
    await asyncio.sleep(2)
    await call(context(), "a")
    assert till.runs == 2


async def test_of_two_at_once_the_second_waits(
    memory_bus: MemoryBus, till: Till
) -> None:
    """As long as it takes, if it has no deadline; a lease is renewed while the first runs."""
    till.gate = asyncio.Event()
    first = asyncio.ensure_future(around(till, memory_bus)(context(), "a"))
    others = [
        asyncio.ensure_future(around(till, memory_bus)(context(), "a"))
        for _ in range(5)
    ]
    await asyncio.sleep(300)  # thirty leases; each waiter looks many times a second
    assert not any(task.done() for task in (first, *others))
    till.gate.set()
    assert await asyncio.gather(first, *others) == [Receipt(1, b"a")] * 6


async def test_the_second_waits_until_its_deadline(
    memory_bus: MemoryBus, till: Till
) -> None:
    """The first goes on."""
    till.gate = asyncio.Event()
    first = asyncio.ensure_future(around(till, memory_bus)(context(), "a"))
    await asyncio.sleep(0.1)
    with pytest.raises(DeadlineExceeded, match="first call of till.pay .* still runs"):
        await around(till, memory_bus)(context(deadline=now() + 5), "a")
    till.gate.set()
    assert await first == Receipt(1, b"a")


async def test_a_key_with_another_request_is_refused(
    memory_bus: MemoryBus, till: Till
) -> None:
    """The sentence names the key; the work never began."""
    call = around(till, memory_bus)
    await call(context("k-7"), "a")
    with pytest.raises(
        InvalidArgument, match="key 'k-7' came with another request"
    ) as caught:
        await call(context("k-7"), "b")
    assert caught.value.field == IDEMPOTENCY_KEY
    assert caught.value.refused == "till.pay"
    assert till.runs == 1


@pytest.mark.parametrize("key", ["x" * 256, "ä", "a\tb"])
async def test_what_is_no_key_is_refused(
    memory_bus: MemoryBus, till: Till, key: str
) -> None:
    """Nothing runs."""
    with pytest.raises(InvalidArgument, match="an idempotency key is"):
        await around(till, memory_bus)(context(key), "a")
    assert till.runs == 0


async def test_declared_errors_are_answers(memory_bus: MemoryBus, till: Till) -> None:
    """They come back as themselves, with their fields."""
    till.error = Declined("4242")
    for _ in range(2):
        with pytest.raises(Declined) as caught:
            await around(till, memory_bus)(context(), "a")
        assert (caught.value.card, str(caught.value)) == (
            "4242",
            "card 4242 was declined",
        )
    assert till.runs == 1


async def test_codes_that_say_no_are_answers(memory_bus: MemoryBus, till: Till) -> None:
    """With their message."""
    till.error = NotFound("no such account")
    for _ in range(2):
        with pytest.raises(NotFound, match="^no such account$"):
            await around(till, memory_bus)(context(), "a")
    assert till.runs == 1


@pytest.mark.parametrize("kind", [Unavailable, ResourceExhausted])
async def test_a_call_that_never_began_is_forgotten(
    memory_bus: MemoryBus, till: Till, kind: type[Unavailable]
) -> None:
    """Its repetition runs."""
    till.error = kind("full").before("till.pay")
    with pytest.raises(kind):
        await around(till, memory_bus)(context(), "a")
    till.error = None
    assert await around(till, memory_bus)(context(), "a") == Receipt(2, b"a")


@pytest.mark.parametrize(
    "error", [Unavailable("a database"), RuntimeError("bug"), DeadlineExceeded("late")]
)
async def test_a_failure_in_between_leaves_it_open(
    memory_bus: MemoryBus, till: Till, error: Exception
) -> None:
    """The caller hears the failure itself, and then that nobody knows."""
    till.error = error
    with pytest.raises(type(error)):
        await around(till, memory_bus)(context(), "a")
    till.error = None
    with pytest.raises(Aborted, match="nobody knows how the first call of till.pay"):
        await around(till, memory_bus)(context(), "a")
    assert till.runs == 1
    again = around(till, memory_bus, crashed="run")
    assert await again(context(), "a") == Receipt(2, b"a")
    assert await around(till, memory_bus)(context(), "a") == Receipt(2, b"a")


async def test_a_cancelled_call_leaves_it_open(
    memory_bus: MemoryBus, till: Till
) -> None:
    """It is known at once, not at the end of a lease."""
    till.gate = asyncio.Event()
    first = asyncio.ensure_future(around(till, memory_bus)(context(), "a"))
    await asyncio.sleep(0.1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    began = now()
    with pytest.raises(Aborted):
        await around(till, memory_bus)(context(), "a")
    assert now() - began < 1


async def crash(bus: MemoryBus, till: Till) -> None:
    """Leave the record of an instance that was killed in the middle of a call."""
    till.gate = asyncio.Event()
    first = asyncio.ensure_future(around(till, bus)(context(), "a"))
    await asyncio.sleep(0.1)
    bucket = await jetstream_of(bus).key_value(ANSWERS)
    (key,) = await bucket.keys()
    record = await bucket.get(key)
    till.gate.set()
    await first
    await bucket.put(key, record.value)
    till.gate = None


async def test_after_a_crash_calls_are_refused(
    memory_bus: MemoryBus, till: Till
) -> None:
    """Once the lease is over: the outcome is unknown."""
    await crash(memory_bus, till)
    began = now()
    with pytest.raises(Aborted, match="nobody knows"):
        await around(till, memory_bus)(context(), "a")
    assert 9 <= now() - began <= 11
    assert till.runs == 1


async def test_after_a_crash_one_runs_again_if_told_so(
    memory_bus: MemoryBus, till: Till
) -> None:
    """One, however many come."""
    await crash(memory_bus, till)
    calls = [around(till, memory_bus, crashed="run")(context(), "a") for _ in range(5)]
    assert await asyncio.gather(*calls) == [Receipt(2, b"a")] * 5
    assert till.runs == 2


async def test_without_the_store_nothing_runs(
    memory_bus: MemoryBus, till: Till
) -> None:
    """It may be tried again; it works when the store is back."""
    call = around(till, memory_bus)
    memory_bus.disconnect()
    with pytest.raises(Unavailable, match="the store of answers is out of") as caught:
        await call(context(), "a")
    assert caught.value.refused == "till.pay"
    memory_bus.reconnect()
    assert await call(context(), "a") == Receipt(1, b"a")


async def test_a_store_that_goes_meanwhile_costs_no_answer(
    memory_bus: MemoryBus, till: Till, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller gets its own; that it is not kept is in the log."""
    caplog.set_level(logging.WARNING, logger="kitmsg.middleware.dedupe")
    till.gate = asyncio.Event()
    first = asyncio.ensure_future(around(till, memory_bus)(context(), "a"))
    await asyncio.sleep(0.1)
    memory_bus.disconnect()
    till.gate.set()
    assert await first == Receipt(1, b"a")
    assert "the answer of till.pay is not kept" in caplog.text
    memory_bus.reconnect()
    with pytest.raises(Aborted):
        await around(till, memory_bus)(context(), "a")


async def test_by_hand_it_wants_a_bus_and_a_type(
    memory_bus: MemoryBus, till: Till
) -> None:
    """Each is named."""
    with pytest.raises(ValueError, match="no bus here: give one, store=bus"):
        dedupe()(till.pay)
    with pytest.raises(ValueError, match="the type of the result here: give it"):
        dedupe(store=memory_bus)(till.pay)
    call = dedupe(store=memory_bus, result=Receipt)(till.pay)
    await call(context(), "a")
    assert await call(context(), "a") == Receipt(1, b"a")


@pytest.mark.parametrize(
    "options", [{"window": 0}, {"lease": 0.5}, {"crashed": "maybe"}]
)
async def test_nonsense_is_refused(options: dict[str, Any]) -> None:
    """When the middleware is made."""
    with pytest.raises(ValueError, match="must be"):
        dedupe(**options)


class Shop(kitmsg.Service):
    """Sells."""

    def __init__(self) -> None:
        self.sold: list[str] = []

    @kitmsg.endpoint(middleware=[dedupe(60)], raises=[Declined])
    async def buy(self, what: str) -> Receipt:
        """Sell it."""
        self.sold.append(what)
        if what == "declined":
            raise Declined(str(len(self.sold)))
        return Receipt(len(self.sold), what.encode())


async def test_a_client_that_retries_has_the_work_done_once(kit: kitmsg.Kit) -> None:
    """Its tries have one key, also where only the answer got lost; another call another."""
    shop = Shop()
    await kit.serve(shop)
    lost: list[Any] = []

    def lossy(call: Endpoint[Any, Any]) -> Endpoint[Any, Any]:
        async def first_answer_lost(ctx: Context, request: Any) -> Any:
            answer = await call(ctx, request)
            if len(lost) < 2:
                lost.append(answer)
                raise Unavailable("the connection broke")
            return answer

        return first_answer_lost

    client = kit.client(Shop, middleware=[retry(4, idempotent=True), lossy])
    assert await client.buy("a") == Receipt(1, b"a")
    assert lost == [Receipt(1, b"a")] * 2
    assert await client.buy("a") == Receipt(2, b"a")
    assert shop.sold == ["a", "a"]


async def test_declared_errors_cross_the_bus_again(kit: kitmsg.Kit) -> None:
    """A repetition is told of them as the first call was."""
    await kit.serve(Shop())
    client = kit.client(Shop, metadata={IDEMPOTENCY_KEY: "k"})
    for _ in range(2):
        with pytest.raises(Declined, match="card 1 was declined"):
            await client.buy("declined")


async def test_a_key_crosses_the_bus(kit: kitmsg.Kit) -> None:
    """As a header that a client in any language may send."""
    shops = [Shop(), Shop()]
    for shop in shops:
        await kit.serve(shop)
    client = kit.client(Shop, metadata={IDEMPOTENCY_KEY: "k"})
    for _ in range(4):
        assert await client.buy("a") == Receipt(1, b"a")
    assert sum(len(shop.sold) for shop in shops) == 1


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_real_store_keeps_answers(
    nats_server: EmbeddedServer, till: Till, anyio_backend: str
) -> None:
    """Ten at once over five connections: one runs."""
    buses = [await NatsBus.connect(nats_server.url) for _ in range(5)]
    till.gate = asyncio.Event()
    calls = [
        asyncio.ensure_future(around(till, bus)(context("real"), "a"))
        for bus in buses * 2
    ]
    await asyncio.sleep(0.2)
    till.gate.set()
    assert await asyncio.gather(*calls) == [Receipt(1, b"a")] * 10
    assert await around(till, buses[0])(context("real"), "a") == Receipt(1, b"a")
    for bus in buses:
        await bus.close()
