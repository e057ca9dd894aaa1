"""Services of one worker that need each other start in an order that works."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from kitmsg import Kit, Service, endpoint
from kitmsg.errors import NoResponders
from kitmsg.worker.starting import start_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.service import ServiceHost


class Stock(Service):
    """Takes a while to start."""

    log: ClassVar[list[str]] = []

    async def start(self) -> None:
        await asyncio.sleep(1)
        self.log.append("stock")

    @endpoint
    async def count(self) -> int:
        return 7


class Shop(Service):
    """Calls the stock when it starts."""

    def __init__(self, stock: Stock) -> None:
        self.stock = stock

    async def start(self) -> None:
        assert await self.stock.count() == 7
        Stock.log.append("shop")

    @endpoint
    async def open(self) -> bool:
        return True


class Till(Shop):
    """Calls the stock by its name, which nobody can know before."""

    name = "till"
    made: ClassVar[int] = 0

    def __init__(self, kit: Kit) -> None:
        type(self).made += 1
        self.kit = kit

    async def start(self) -> None:
        assert await self.kit.call("stock.count") == 7
        Stock.log.append("till")


class Hen(Service):
    """Needs an egg."""

    def __init__(self, egg: Egg) -> None:
        self.egg = egg

    @endpoint
    async def lay(self) -> bool:
        return True


class Egg(Service):
    """Needs a hen."""

    def __init__(self, hen: Hen) -> None:
        self.hen = hen

    async def start(self) -> None:
        assert await self.hen.lay()

    @endpoint
    async def hatch(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _no_log() -> None:
    Stock.log.clear()
    Till.made = 0


def make_stock() -> Stock:
    """Make it; what is made stands in the annotation."""
    return Stock()


def made(stock: Stock) -> Any:
    """Make a shop; nobody knows what this makes."""
    return Shop(stock)


@pytest.mark.parametrize("stock", [Stock, make_stock, Stock()])
@pytest.mark.parametrize("shop", [Shop, made])
async def test_what_the_constructor_asks_for_starts_before(
    kit: Kit, shop: Callable[..., Service], stock: Any
) -> None:
    """However they are listed; the hosts are in the order of the list."""
    hosts: list[ServiceHost] = []
    await start_all(kit, [shop, stock], hosts)
    assert Stock.log == ["stock", "shop"]
    assert [host.service.name for host in hosts] == ["shop", "stock"]


async def test_what_is_called_by_name_is_found(kit: Kit) -> None:
    """One that finds nobody starts again, afresh, when another has started."""
    hosts: list[ServiceHost] = []
    await start_all(kit, [Till, Shop, Stock], hosts)
    assert Stock.log[0] == "stock"
    assert sorted(Stock.log) == ["shop", "stock", "till"]
    assert Till.made == 2
    assert [host.service.name for host in hosts] == ["till", "shop", "stock"]


async def test_what_is_nowhere_is_not_waited_for(kit: Kit) -> None:
    """The failure of a start ends all of it, at once and as it is."""

    class Lost(Till):
        name = "lost"

        async def start(self) -> None:
            await self.kit.call("elsewhere.count")

    hosts: list[ServiceHost] = []
    before = asyncio.get_running_loop().time()
    with pytest.raises(NoResponders, match="elsewhere"):
        await start_all(kit, [Lost, Stock], hosts)
    assert asyncio.get_running_loop().time() - before < 1
    assert hosts == []


async def test_two_that_wait_for_each_other_fail(kit: Kit) -> None:
    """Neither can start: it ends with an error, it does not hang."""

    class Ping(Till):
        name = "ping"

        async def start(self) -> None:
            await self.kit.call("pong.open")

    class Pong(Till):
        name = "pong"

        async def start(self) -> None:
            await self.kit.call("ping.open")

    with pytest.raises(NoResponders):
        await start_all(kit, [Ping, Pong], [])


async def test_a_circle_of_constructors_starts(kit: Kit) -> None:
    """Clients need no instance, so each may ask for the other."""
    hosts: list[ServiceHost] = []
    await start_all(kit, [Egg, Hen], hosts)
    assert [host.service.name for host in hosts] == ["egg", "hen"]
