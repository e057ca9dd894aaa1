"""Services that models call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator  # noqa: TC003  # read when `Shop` is defined

import msgspec

from kitmsg import BusinessError, Context, Service, endpoint

__all__ = ["Item", "Order", "Shop", "SoldOut"]


class Item(msgspec.Struct):
    sku: str
    count: int = 1


class Order(msgspec.Struct):
    id: str
    items: list[Item] = []


class SoldOut(BusinessError):
    """It is sold out."""

    template = "{sku} is sold out"
    sku: str


class Shop(Service):
    """Sells things."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.left = 0.0
        self.headers: dict[str, str] = {}

    @endpoint(http="GET /orders/{id}")
    async def get(self, id: str) -> Order | None:  # noqa: A002
        """Return an order."""
        return Order(id, [Item("tea")]) if id == "A1" else None

    @endpoint(idempotent=True)
    async def put(self, order: Order) -> Order:
        """Keep an order."""
        return order

    @endpoint(raises=[SoldOut])
    async def buy(self, sku: str) -> int:
        if sku == "crash":
            raise RuntimeError("the password is 1234")
        raise SoldOut(sku)

    @endpoint
    async def forget(self) -> None: ...

    @endpoint
    async def scan(self, page: bytes) -> bytes:
        return page[::-1]

    @endpoint
    async def wait(self, ctx: Context) -> str:
        loop = asyncio.get_running_loop()
        self.left = ctx.deadline - loop.time() if ctx.deadline else 0.0
        self.headers = {name.lower(): value for name, value in ctx.headers.items()}
        self.begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return "late"

    @endpoint
    async def echo(self, ctx: Context) -> dict[str, str]:
        return {name.lower(): value for name, value in ctx.headers.items()}

    @endpoint(raises=[SoldOut])
    async def count(self, upto: int, fails: bool = False) -> AsyncIterator[Item]:
        """Count things."""
        for number in range(upto):
            yield Item("tea", number)
        if fails:
            raise SoldOut("tea")

    @endpoint
    async def watch(self) -> AsyncIterator[int]:
        try:
            yield 1
            self.begun.set()
            await asyncio.sleep(60)
        finally:
            self.cancelled.set()

    @endpoint
    async def total(self, items: str, each: AsyncIterator[Item]) -> int:
        return sum([item.count async for item in each]) + len(items)

    @endpoint
    async def double(self, numbers: AsyncIterator[int]) -> AsyncIterator[int]:
        async for number in numbers:
            yield 2 * number
