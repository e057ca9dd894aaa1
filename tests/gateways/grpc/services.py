"""Services that the gateway's tests call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator  # noqa: TC003  # read with the signatures
from datetime import datetime  # noqa: TC003
from enum import Enum
from typing import Any

import msgspec

import kitmsg
from kitmsg import BusinessError, Context, Service, endpoint


class SoldOut(BusinessError):
    """It is sold out."""

    code = kitmsg.Code.FAILED_PRECONDITION
    template = "{name} is sold out, {left} left"
    name: str
    left: int


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


class Cup(msgspec.Struct):
    name: str
    size: Size
    price: float
    tags: list[str] = []
    note: str | None = None


class Shop(Service):
    """Sells things."""

    version = "1.2.3"

    def __init__(self) -> None:
        self.seen: dict[str, str] = {}
        self.timeout_ms = ""
        self.ended: list[str] = []
        self.started = asyncio.Event()
        self.produced = 0

    @endpoint(idempotent=True)
    async def price(self, name: str, count: int = 1) -> float:
        """Tell what so many cost."""
        return 2.5 * count

    @endpoint
    async def make(self, cup: Cup, when: datetime | None = None) -> Cup:
        return msgspec.structs.replace(cup, note=when and when.isoformat())

    @endpoint(raises=[SoldOut])
    async def buy(self, name: str) -> None:
        raise SoldOut(name, 0)

    @endpoint
    async def look(self, ctx: Context) -> None:
        self.seen = dict(ctx.headers)

    @endpoint
    async def echo(self, data: bytes) -> bytes:
        return data

    @endpoint
    async def fail(self) -> None:
        raise RuntimeError("the secret is 1234")

    @endpoint
    async def busy(self) -> None:
        raise kitmsg.errors.ResourceExhausted("come back", retry_after=1.5)

    @endpoint
    async def wait(self) -> None:
        self.started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.ended.append("wait")
            raise

    @endpoint(wire="gokit", subject="elsewhere.shout")
    async def shout(self, s: str) -> str:
        if not s:
            raise kitmsg.errors.InvalidArgument("empty string")
        return s.upper()


class Streams(Service):
    """Streams of all kinds."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.produced = 0

    @endpoint(raises=[SoldOut])
    async def count(self, to: int, bad: int = 0) -> AsyncIterator[int]:
        try:
            for number in range(1, to + 1):
                if number == bad:
                    raise SoldOut("numbers", number)
                self.produced = number
                yield number
        finally:
            self.ended.append("count")

    @endpoint
    async def forever(self) -> AsyncIterator[bytes]:
        try:
            while True:
                self.produced += 1
                yield bytes(1000)
        finally:
            self.ended.append("forever")

    @endpoint
    async def total(self, numbers: AsyncIterator[int]) -> int:
        try:
            return sum([number async for number in numbers])
        finally:
            self.ended.append("total")

    @endpoint
    async def scaled(
        self, factor: int, numbers: AsyncIterator[int]
    ) -> AsyncIterator[int]:
        try:
            async for number in numbers:
                yield number * factor
        finally:
            self.ended.append("scaled")


def plain(value: Any) -> Any:
    """Return the one field of a message."""
    return value.value
