"""What type checkers see of the public API.  Checked by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, assert_type

import kitmsg
from kitmsg import BusinessError, Code, Context, Endpoint, Middleware, Service, endpoint
from kitmsg.auth.allow import known, role, scope
from kitmsg.middleware import bulkhead, log, rate_limit, retry, timeout
from kitmsg.testing import Call, fake, fake_subject
from kitmsg.transport import Client, Server


@dataclass
class Order:
    sku: str
    count: int = 1


class OutOfStock(BusinessError):
    code = Code.ABORTED
    sku: str
    left: int = 0


class Shop(Service):
    version = "1.4.0"
    allow = known
    middleware = [log(), timeout(2.0)]  # noqa: RUF012  # as users write it
    concurrency = 4

    def __init__(self, stock: dict[str, int]) -> None:
        self.stock = stock

    @endpoint
    async def hello(self, name: str, *, loud: bool = False) -> str:
        return name

    @endpoint(http="GET /orders/{id}", idempotent=True, timeout=2.0)
    async def get(self, id: int) -> Order | None:  # noqa: A002
        return None

    @endpoint(
        raises=[OutOfStock],
        middleware=[retry(), rate_limit(10)],
        allow=scope("orders:write") | role("admin") & known,
    )
    async def place(self, order: Order) -> Order:
        raise OutOfStock(order.sku, left=2)

    @endpoint
    def blocking(self, a: int, b: int = 1) -> int:
        return a + b

    @endpoint(timeout=1.0, allow=lambda ctx: ctx.principal is not None)
    def blocking_too(self) -> list[str]:
        return []

    @endpoint
    async def with_context(self, ctx: Context, name: str) -> str:
        return ctx.endpoint + name

    @endpoint(timeout=1.0)
    def blocking_with_context(self, ctx: Context) -> float:
        return 1.0


class Feed(Service):
    @endpoint
    async def watch(self, id: str) -> AsyncIterator[Order]:  # noqa: A002
        yield Order(id)

    @endpoint(timeout=5.0)
    async def watch_too(self, ctx: Context, n: int) -> AsyncIterator[int]:
        yield n

    @endpoint
    async def returned(self) -> AsyncIterator[int]:
        return self.watch_too(1)

    @endpoint
    async def put(self, name: str, parts: AsyncIterator[bytes]) -> int:
        return sum([len(part) async for part in parts])

    @endpoint(raises=[OutOfStock])
    async def talk(self, words: AsyncIterator[str]) -> AsyncIterator[str]:
        async for word in words:
            yield word


async def streams(kit: kitmsg.Kit, parts: AsyncIterator[bytes]) -> None:
    """A stream is iterated over, and can be closed."""
    feed = kit.client(Feed)
    async for order in feed.watch("a"):
        assert_type(order, Order)
    async with aclosing(feed.watch_too(1)) as numbers:
        assert_type(await anext(numbers), int)
    async for number in await feed.returned():
        assert_type(number, int)
    assert_type(await feed.put("a", parts), int)
    async for item in kit.stream("feed.watch", id="a"):
        assert_type(item, Any)


async def typed_client(kit: kitmsg.Kit) -> None:
    """The client has the service's own signatures."""
    shop = kit.client(Shop, timeout=2.0)
    assert_type(shop, Shop)
    assert_type(await shop.hello("Ann"), str)
    assert_type(await shop.hello(name="Ann", loud=True), str)
    assert_type(await shop.get(5), Order | None)
    assert_type(await shop.place(Order("ball")), Order)


async def plain_functions(kit: kitmsg.Kit) -> None:
    """A plain ``def`` is awaited by whoever calls it."""
    shop = kit.client(Shop)
    assert_type(await shop.blocking(1), int)
    assert_type(await shop.blocking(1, b=2), int)
    assert_type(await shop.blocking_too(), list[str])
    assert_type(await Shop({}).blocking(1), int)


async def contexts(kit: kitmsg.Kit) -> None:
    """A context that comes first is not for the caller to give."""
    shop = kit.client(Shop)
    assert_type(await shop.with_context("Ann"), str)
    assert_type(await shop.with_context(name="Ann"), str)
    assert_type(await shop.blocking_with_context(), float)


def is_paid(call: Endpoint[Order, int]) -> Endpoint[Order, int]:
    """Wrap endpoints of one type only."""
    return call


def explicit(bus: Any, call: Endpoint[Order, int]) -> None:
    """Middleware keeps the type of an endpoint; `chain` does too."""
    limit: Middleware = rate_limit(100)
    wrapped = limit(call)
    assert_type(wrapped, Callable[[Context, Order], Awaitable[int]])
    composed = kitmsg.chain(log(), limit, bulkhead(4))(call)
    assert_type(composed, Callable[[Context, Order], Awaitable[int]])
    assert_type(is_paid(composed), Callable[[Context, Order], Awaitable[int]])
    Server(bus, "a.b", composed, decode=lambda c, m: m.data, encode=lambda c, r: b"")


async def remote(bus: Any) -> None:
    """A client is an endpoint of its request and response."""
    client: Client[Order, int] = Client(
        bus, "a.b", encode=lambda c, r: b"", decode=lambda c, m: 1
    )
    assert_type(client.endpoint(), Callable[[Context, Order], Awaitable[int]])
    assert_type(await client.endpoint()(Context(), Order("x")), int)


def plain(a: int) -> str:
    """Be no method at all."""
    return str(a)


async def plain_async(a: int) -> str:
    """Be a coroutine function."""
    return str(a)


async def made() -> None:
    """`make_endpoint` knows the response."""
    assert_type(await kitmsg.make_endpoint(plain_async)(Context(), None), str)
    assert_type(await kitmsg.make_endpoint(plain)(Context(), None), str)


async def connected() -> None:
    """`connect` is a context manager, or awaited."""
    async with kitmsg.connect("nats://localhost", user="me") as kit:
        assert_type(kit, kitmsg.Kit)
    kit = await kitmsg.connect()
    assert_type(kit, kitmsg.Kit)
    assert_type(await kit.call("shop.hello", name="Ann"), Any)
    await kit.serve(Shop({}))
    await kit.serve(lambda: Shop({}))


async def errors(kit: kitmsg.Kit) -> None:
    """A business error is a dataclass to a type checker."""
    try:
        await kit.client(Shop).place(Order("ball"))
    except OutOfStock as exc:
        assert_type(exc.sku, str)
        assert_type(exc.left, int)
        assert_type(exc.code, Code)


async def test_with_fakes(kit: kitmsg.Kit) -> None:
    """A test is typed by annotating the fixture."""
    shop = await fake(kit, Shop, hello="Hi!")
    assert_type(shop.hello.calls, list[Call])
    charge = await fake_subject(kit, "payments.charge", {"id": 1})
    assert_type(charge.calls, list[Call])
