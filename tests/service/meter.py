"""A service whose endpoints stream in every direction, well or badly."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import msgspec

from kitmsg import (
    BusinessError,
    Context,
    Service,
    current,
    endpoint,
)


class Reading(msgspec.Struct):
    """One value at one time."""

    at: int
    value: float


class TooFar(BusinessError):
    """The counter went too far."""

    limit: int


class Meter(Service):
    """Streams numbers of several kinds."""

    max_streams = 3

    def __init__(self) -> None:
        self.closed: list[str] = []
        self.seen: list[Any] = []

    @endpoint(raises=[TooFar])
    async def count(self, upto: int, fails: bool = False) -> AsyncIterator[Reading]:
        """Count up to a number."""
        for i in range(upto):
            yield Reading(i, i / 2)
        if fails:
            raise TooFar(upto)

    @endpoint
    async def ticks(self) -> AsyncGenerator[str, None]:
        """Go on until somebody stops it."""
        try:
            while True:
                yield "tick"
                await asyncio.sleep(1)
        finally:
            self.closed.append("ticks")

    @endpoint
    async def total(self, start: int, readings: AsyncIterator[Reading]) -> float:
        """Add up what the caller sends."""
        async for reading in readings:
            if reading.value < 0:
                raise ValueError("secret")
            start += int(reading.value)
        return start

    @endpoint
    async def shout(
        self, ctx: Context, words: AsyncIterator[str]
    ) -> AsyncIterator[str]:
        """Say each word louder."""
        self.seen.append((ctx.endpoint, ctx.caller, current() is ctx))
        async for word in words:
            yield word.upper()

    @endpoint
    async def made(self, upto: int) -> AsyncIterator[int]:
        """Return an iterator instead of being one."""

        async def numbers() -> AsyncIterator[int]:
            for i in range(upto):
                yield i

        return numbers()

    @endpoint(timeout=0.2)
    async def short(self) -> AsyncIterator[int]:
        """Has 0.2 s."""
        yield 1
        await asyncio.sleep(60)

    @endpoint
    async def broken(self) -> AsyncIterator[int]:
        """Fail in a way nobody declared."""
        yield 1
        raise RuntimeError("hunter2")

    @endpoint
    async def early(self, words: AsyncIterator[str]) -> str:
        """Answer after the first word."""
        return await anext(words)

    @endpoint
    async def wide(self) -> AsyncIterator[bytes]:
        """Give an item that no bus carries."""
        yield b"x" * (2 << 20)


async def of(*items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item
