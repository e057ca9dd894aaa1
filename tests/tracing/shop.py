"""The services of the tests with real receivers: each runs in a process of its own."""

from __future__ import annotations

import asyncio

from opentelemetry import trace

import kitmsg
from kitmsg import Service, endpoint
from kitmsg.errors import Unavailable
from kitmsg.middleware.hedge import hedge
from kitmsg.middleware.retry import retry


class Bank(Service):
    """Stands behind a gRPC gateway."""

    @endpoint
    async def charge(self, cents: int) -> int:
        return cents


class Stock(Service):
    """Fails once, and is slow once."""

    def __init__(self) -> None:
        self.calls = 0
        self.is_slow = True

    @endpoint
    async def count(self, item: str) -> int:
        self.calls += 1
        if self.calls == 1:
            raise Unavailable("once").before("stock.count")
        return len(item)

    @endpoint(idempotent=True)
    async def find(self, item: str) -> int:
        if item and self.is_slow:  # a call that warms the hedge has no item
            self.is_slow = False
            await asyncio.sleep(3600)
        return 1


class Pay(Service):
    """As its gRPC upstream has it."""

    @endpoint
    async def charge(self, cents: int) -> dict[str, int]:
        raise NotImplementedError


class Shop(Service):
    """Calls the others."""

    def __init__(self, kit: kitmsg.Kit) -> None:
        self.stock = kit.client(Stock, middleware=[retry(base=0.001)])
        self.hedged = kit.client(Stock, middleware=[hedge(0.9, budget=1.0)])
        self.pay = kit.client(Pay)

    @endpoint(http="GET /buy/{item}")
    async def buy(self, item: str) -> int:
        with trace.get_tracer("shop").start_as_current_span("price"):
            cents = await self.stock.count(item=item)
        await self.hedged.find(item=item)
        return (await self.pay.charge(cents=cents))["value"]

    @endpoint
    async def warm(self) -> None:
        """Let the hedge know how long a call takes."""
        for _ in range(30):
            await self.hedged.find(item="")
