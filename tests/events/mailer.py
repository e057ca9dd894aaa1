"""A service that notes and fails deliveries, and waits for what becomes of them."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from kitmsg import Event, Service, subscribe

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from kitmsg import Kit
    from kitmsg.jetstream import Stored

    Elsewhere = Callable[[], AbstractAsyncContextManager[Kit]]


class Placed(Event, subject="orders.placed.{order_id}"):
    order_id: str
    total: Decimal = Decimal(0)


class Paid(Event, subject="orders.paid.{order_id}"):
    order_id: str


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def dead(kit: Kit, count: int = 1) -> list[Stored]:
    """Return the dead letters, once there are so many."""
    stream = await kit.jetstream.stream("dead")
    async with asyncio.timeout(10):
        while (await stream.info()).messages < count:
            await asyncio.sleep(0.01)
    return [letter async for letter in stream.read("dead.>")]


class Mailer(Service):
    """Notes what it was given, and fails as it is told."""

    def __init__(self) -> None:
        self.given: list[Event] = []
        self.fails: dict[str, list[Exception]] = {}

    @subscribe(Placed, retries=(0.05, 0.05), since="first")
    async def thank(self, event: Placed) -> None:
        self.given.append(event)
        failures = self.fails.get(event.order_id)
        if failures:
            raise failures.pop(0)
