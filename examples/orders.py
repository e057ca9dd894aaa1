"""Two services, one calling the other: what goes along with a nested call.

`Orders` asks for an `Inventory` in its constructor.  Served by its class, it is given a
client of the one on the bus; by hand, it can be given an `Inventory` itself, or a fake.

A deadline, the caller's name and the request id go along without a word about them.  A
typed error comes back through both.  A caller that gives up stops the work at the end of
the line.  ``kitmsg dev examples/orders.py`` serves both; run as a script it prints

    Ann ordered 2 teapot, 1 kettle
      inventory: reserve 2 teapot for orders.place, request web-1, under 2 s left
      inventory: reserve 1 kettle for orders.place, request web-1, under 2 s left
    placed: order 1, 3 items
    Bob ordered 9 teapot
      inventory: reserve 9 teapot for orders.place, request web-2, under 2 s left
    refused: only 3 teapot left (3 of 9)
    Cid ordered 1 lantern
      inventory: looking for 1 lantern in the cellar
      inventory: nobody waits for 1 lantern any more
    Cid went away
"""

import asyncio
import math
from collections.abc import Mapping

from msgspec import Struct

import kitmsg
from kitmsg import BusinessError, Code, Service, current, endpoint
from kitmsg.bus.memory import MemoryBus

STOCK = {"teapot": 5, "kettle": 1}


class Line(Struct):
    """So many of one thing."""

    sku: str
    count: int


class Customer(Struct):
    """Who orders."""

    name: str


class NewOrder(Struct):
    """What a customer wants."""

    customer: Customer
    lines: list[Line]


class Order(Struct):
    """A placed order."""

    id: int
    items: int


class OutOfStock(BusinessError):
    """There is not enough of something."""

    code = Code.FAILED_PRECONDITION
    template = "only {left} {sku} left"
    sku: str
    left: int


class Inventory(Service):
    """Knows what is in stock."""

    def __init__(self, stock: Mapping[str, int] = STOCK) -> None:
        self.stock = dict(stock)
        self.searching = asyncio.Event()
        self.stopped = asyncio.Event()

    @endpoint(raises=[OutOfStock])
    async def reserve(self, line: Line) -> None:
        """Put some of the stock aside."""
        if line.sku not in self.stock:
            await self._search(line)
        ctx = current()
        left = ctx.remaining(asyncio.get_running_loop().time())
        print(
            f"  inventory: reserve {line.count} {line.sku} for {ctx.caller},"
            f" request {ctx.request_id}, under {math.ceil(left or 0)} s left"
        )
        if self.stock[line.sku] < line.count:
            raise OutOfStock(line.sku, self.stock[line.sku])
        self.stock[line.sku] -= line.count

    async def _search(self, line: Line) -> None:
        print(f"  inventory: looking for {line.count} {line.sku} in the cellar")
        self.searching.set()
        try:
            await asyncio.Event().wait()  # it is a large cellar
        except asyncio.CancelledError:
            print(f"  inventory: nobody waits for {line.count} {line.sku} any more")
            self.stopped.set()
            raise


class Orders(Service):
    """Takes orders."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._placed = 0

    @endpoint(http="POST /orders", raises=[OutOfStock])
    async def place(self, order: NewOrder) -> Order:
        """Place an order; all or nothing is left to a longer example."""
        lines = ", ".join(f"{line.count} {line.sku}" for line in order.lines)
        print(f"{order.customer.name} ordered {lines}")
        for line in order.lines:
            await self._inventory.reserve(line)
        self._placed += 1
        return Order(self._placed, sum(line.count for line in order.lines))


async def order(orders: Orders, name: str, **wanted: int) -> None:
    """Place an order and print what comes of it."""
    lines = [Line(sku, count) for sku, count in wanted.items()]
    try:
        placed = await orders.place(NewOrder(Customer(name), lines))
        print(f"placed: order {placed.id}, {placed.items} items")
    except OutOfStock as error:
        print(f"refused: {error} ({error.left} of {wanted[error.sku]})")


async def give_up(orders: Orders, inventory: Inventory) -> None:
    """Order something hard to find, and leave before it is found."""
    waiting = asyncio.create_task(order(orders, "Cid", lantern=1))
    await inventory.searching.wait()
    waiting.cancel()
    await inventory.stopped.wait()
    print("Cid went away")


async def main() -> None:
    inventory = Inventory()
    async with kitmsg.connect(bus=MemoryBus()) as kit:
        await kit.serve(inventory)
        await kit.serve(Orders)
        first, second, third = (
            kit.client(Orders, timeout=2.0, metadata={"Kit-Request-Id": f"web-{n}"})
            for n in (1, 2, 3)
        )
        await order(first, "Ann", teapot=2, kettle=1)
        await order(second, "Bob", teapot=9)
        await give_up(third, inventory)


if __name__ == "__main__":
    asyncio.run(main())
