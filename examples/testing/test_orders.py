"""Testing a service that calls another: a fake answers for the other one."""

import asyncio

import pytest

from examples.orders import (
    Customer,
    Inventory,
    Line,
    NewOrder,
    Order,
    Orders,
    OutOfStock,
)
from kitmsg import Kit
from kitmsg.errors import DeadlineExceeded
from kitmsg.testing import fake

ORDER = NewOrder(Customer("Ann"), [Line("teapot", 2), Line("kettle", 1)])


async def test_every_line_is_reserved(kit: Kit) -> None:
    """A fake keeps the calls it received, as plain data."""
    inventory = await fake(kit, Inventory, reserve=None)
    await kit.serve(Orders(kit.client(Inventory)))
    assert await kit.client(Orders).place(ORDER) == Order(id=1, items=3)
    assert [call.arguments["line"].sku for call in inventory.reserve.calls] == [
        "teapot",
        "kettle",
    ]


async def test_refusal_of_the_inventory_reaches_the_customer(kit: Kit) -> None:
    """A fake raises what the real service would; it travels typed, fields and all."""
    await fake(kit, Inventory, reserve=OutOfStock("teapot", 1))
    await kit.serve(Orders(kit.client(Inventory)))
    with pytest.raises(OutOfStock, match="only 1 teapot left"):
        await kit.client(Orders).place(ORDER)


async def test_slow_inventory_costs_no_more_than_the_deadline(kit: Kit) -> None:
    """An hour passes at once: the clock of a test jumps to the next thing that happens."""

    async def take_an_hour(line: Line) -> None:
        await asyncio.sleep(3600)

    await fake(kit, Inventory, reserve=take_an_hour)
    await kit.serve(Orders(kit.client(Inventory)))
    with pytest.raises(DeadlineExceeded):
        await kit.client(Orders, timeout=2.0).place(ORDER)
