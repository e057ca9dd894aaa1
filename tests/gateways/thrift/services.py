"""Services that the tests put on the bus."""

from __future__ import annotations

import asyncio
from datetime import datetime  # noqa: TC003  # read with the signatures
from decimal import Decimal  # noqa: TC003
from enum import Enum
from typing import TYPE_CHECKING
from uuid import UUID  # noqa: TC003

import msgspec

from kitmsg import BusinessError, Code, Service, endpoint
from kitmsg.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Archive", "Greeter", "Kind", "Rude", "Scroll", "Slow"]


class Rude(BusinessError):
    """Somebody was rude."""

    code = Code.PERMISSION_DENIED
    template = "{name} was rude {times} times"
    name: str
    times: int


class Greeter(Service):
    """Says hello."""

    name = "greeter"

    def __init__(self) -> None:
        self.told: list[str] = []

    @endpoint
    async def hello(self, name: str) -> str:
        """Greet somebody."""
        return f"Hello, {name}!"

    @endpoint(raises=[Rude])
    async def refuse(self, name: str) -> str:
        raise Rude(name, 2)

    @endpoint
    async def missing(self, name: str) -> str:
        raise NotFound(f"there is no {name}")

    @endpoint
    async def crash(self) -> None:
        raise RuntimeError("a secret")

    @endpoint
    async def tell(self, text: str) -> None:
        self.told.append(text)

    @endpoint
    async def watch(self) -> AsyncIterator[str]:
        """Stream greetings."""
        yield "hello"


class Slow(Service):
    """Answers when it is told to."""

    name = "slow"
    concurrency = 64

    def __init__(self) -> None:
        self.running: dict[int, asyncio.Event] = {}
        self.cancelled: list[int] = []

    @endpoint
    async def wait(self, number: int) -> int:
        """Answer once released."""
        released = self.running.setdefault(number, asyncio.Event())
        try:
            await released.wait()
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        return number

    @endpoint(timeout=0.1)
    async def hang(self) -> None:
        await asyncio.Event().wait()


class Kind(Enum):
    """Of a scroll."""

    OLD = "old"
    NEW = "new"


class Scroll(msgspec.Struct):
    """With a field of every kind."""

    id: UUID
    kind: Kind
    price: Decimal
    written: datetime
    data: bytes
    words: dict[str, list[int]] = {}
    copy: Scroll | None = None
    note: str | None = None


class Archive(Service):
    """Keeps scrolls."""

    name = "archive"
    version = "2.1.0"

    @endpoint
    async def same(self, scroll: Scroll, times: int = 1) -> list[Scroll]:
        """Give a scroll back, so many times."""
        return [scroll] * times

    @endpoint
    async def find(self, name: str | None = None) -> Scroll | None:
        """Find nothing."""
        return None

    @endpoint
    async def any(self, value: dict[str, float]) -> dict[str, float]:
        return value

    @endpoint(raises=[Rude])
    async def refuse(self, name: str) -> None:
        raise Rude(name, 2)

    @endpoint
    async def missing(self) -> None:
        raise NotFound("there is no scroll")

    @endpoint(timeout=0.05)
    async def hang(self) -> None:
        await asyncio.Event().wait()
