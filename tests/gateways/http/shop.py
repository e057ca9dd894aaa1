"""A shop: one endpoint for each thing that a request over HTTP may ask of a service."""

from __future__ import annotations

import asyncio
import dataclasses

import kitmsg
from kitmsg import BusinessError, Code, Service, endpoint
from kitmsg.errors import ResourceExhausted, error_for


class OutOfStock(BusinessError):
    """Nothing left."""

    code = Code.ALREADY_EXISTS
    template = "only {left} of {sku} left"
    sku: str
    left: int = 0


@dataclasses.dataclass
class Order:
    """An order."""

    id: str
    lines: list[str] = dataclasses.field(default_factory=list)


class Shop(Service):
    """Sells things."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.release = asyncio.Event()
        self.headers: dict[str, str] = {}

    @endpoint(http="GET /hello/{name}")
    async def hello(self, name: str, times: int = 1) -> str:
        """Say hello."""
        return " ".join([f"Hello, {name}!"] * times)

    @endpoint(http="PUT /orders/{id}")
    async def store(self, order: Order) -> Order:
        return order

    @endpoint(http="DELETE /orders/{id}")
    async def drop(self, id: str) -> None:  # noqa: A002
        return None

    @endpoint
    async def fail(self, code: str) -> None:
        raise error_for(Code(code), f"it is {code}")

    @endpoint
    async def full(self) -> None:
        raise ResourceExhausted("come back", retry_after=2.5)

    @endpoint(raises=[OutOfStock])
    async def buy(self, sku: str) -> None:
        raise OutOfStock(sku, 3)

    @endpoint
    async def crash(self) -> None:
        raise RuntimeError("secret-detail")

    @endpoint
    async def marked(self, ok: bool) -> str | None:
        kitmsg.current().reply["x-trace"] = "t-1"
        kitmsg.current().reply["cache-control"] = "max-age=5"
        if not ok:
            raise error_for(Code.NOT_FOUND, "none")
        return "cup"

    @endpoint
    async def wait(self) -> str:
        self.entered.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return "done"

    @endpoint(timeout=0.2)
    async def slow(self) -> None:
        await asyncio.Event().wait()

    @endpoint
    async def look(self, ctx: kitmsg.Context) -> float:
        self.headers = dict(ctx.headers)
        now = asyncio.get_running_loop().time()
        return ctx.remaining(now) or 0.0

    @endpoint
    async def echo(self, data: bytes) -> bytes:
        return data

    @endpoint
    async def size(self, data: bytes) -> int:
        return len(data)
