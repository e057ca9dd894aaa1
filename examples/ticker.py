"""Streams: a service that sends prices as they change, takes many, and converts them live.

``kitmsg dev examples/ticker.py`` serves it; then

    kitmsg call ticker.watch symbol=tea count=3
    curl -N localhost:8080/prices/tea/watch?count=3

Run as a script it prints

    watch: tea 100, tea 101, tea 102
    average of 100, 101, 102: 101.0
    in euros: 50.0, 50.5
    left after 2 of a stream without end; the service stopped: True
"""

import asyncio
from collections.abc import AsyncIterator

from msgspec import Struct

import kitmsg
from kitmsg import Service, endpoint
from kitmsg.bus.memory import MemoryBus


class Price(Struct):
    """What a thing costs at one moment."""

    symbol: str
    cents: int


class Ticker(Service):
    """Knows prices as they change."""

    def __init__(self, interval: float = 0.01) -> None:
        self._interval = interval
        self.stopped = asyncio.Event()

    @endpoint(http="GET /prices/{symbol}/watch", idempotent=True)
    async def watch(self, symbol: str, count: int = 0) -> AsyncIterator[Price]:
        """Send a price at once and whenever it changes; `count` of them, or for ever."""
        cents = 100
        try:
            while not count or cents < 100 + count:
                yield Price(symbol, cents)
                cents += 1
                await asyncio.sleep(self._interval)
        finally:
            self.stopped.set()

    @endpoint
    async def average(self, prices: AsyncIterator[int]) -> float:
        """Return the average of what the caller sends."""
        seen = [cents async for cents in prices]
        return sum(seen) / len(seen) if seen else 0.0

    @endpoint
    async def convert(
        self, rate: float, prices: AsyncIterator[int]
    ) -> AsyncIterator[float]:
        """Answer each price with the same in another currency."""
        async for cents in prices:
            yield cents * rate


async def numbers(*values: int) -> AsyncIterator[int]:
    """Stream some numbers."""
    for value in values:
        yield value


async def main() -> None:
    async with kitmsg.connect(bus=MemoryBus()) as kit:
        service = Ticker()
        await kit.serve(service)
        ticker = kit.client(Ticker)
        prices = [price async for price in ticker.watch("tea", count=3)]
        print("watch:", ", ".join(f"{price.symbol} {price.cents}" for price in prices))
        print("average of 100, 101, 102:", await ticker.average(numbers(100, 101, 102)))
        euros = [cents async for cents in ticker.convert(0.5, numbers(100, 101))]
        print("in euros:", ", ".join(map(str, euros)))

        service.stopped.clear()
        seen = 0
        async for _ in ticker.watch("cup"):
            seen += 1
            if seen == 2:
                break  # that is enough: the service's generator is closed
        await service.stopped.wait()
        stopped = service.stopped.is_set()
        print(
            f"left after {seen} of a stream without end; the service stopped: {stopped}"
        )


if __name__ == "__main__":
    asyncio.run(main())
