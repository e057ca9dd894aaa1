"""Draining and restarting with open streams."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from kitmsg import (
    Kit,
    Service,
    Supervision,
    endpoint,
)
from kitmsg.errors import (
    Internal,
    Unavailable,
)
from tests.service.meter import Meter


async def test_draining_ends_idle_streams_soon(kit: Kit, meter: Meter) -> None:
    """One that gives nothing for a second is ended `Unavailable`, not after 25 s."""
    idle = kit.client(Meter).shout(of_never())
    reading = asyncio.create_task(anext(idle))
    await asyncio.sleep(0.1)
    loop = asyncio.get_running_loop()
    before = loop.time()
    await kit.hosts[0].drain()
    assert loop.time() - before < 3  # on the kit's own clock, which tells no real time
    with pytest.raises(Unavailable, match=r"meter.shout is stopping"):
        await reading


async def test_draining_lets_streams_that_move_finish(kit: Kit) -> None:
    """An upload that goes on comes to its end."""

    class Store(Service):
        @endpoint
        async def put(self, parts: AsyncIterator[int]) -> int:
            return sum([part async for part in parts])

    async def slowly() -> AsyncIterator[int]:
        for _ in range(20):
            await asyncio.sleep(0.5)
            yield 1

    host = await kit.serve(Store())
    putting = asyncio.create_task(kit.client(Store).put(slowly()))
    await asyncio.sleep(1)
    await host.drain()
    assert await putting == 20


class Feed(Service):
    """Gives as fast as it is read."""

    drain_timeout = 300.0

    @endpoint
    async def numbers(self, upto: int) -> AsyncIterator[int]:
        for n in range(upto):
            yield n


async def read(kit: Kit, upto: int, burst: int, pause: float) -> list[int]:
    """Read a stream in bursts, with a pause after each."""
    seen = []
    async for n in kit.client(Feed).numbers(upto):
        seen.append(n)
        if len(seen) % burst == 0:
            await asyncio.sleep(pause)
    return seen


@pytest.mark.parametrize(("burst", "pause"), [(1, 0.02), (1, 0.3), (100, 2.0)])
async def test_draining_lets_a_slow_steady_reader_finish(
    kit: Kit, burst: int, pause: float
) -> None:
    """Fifty items a second, few, or in lumps: such a stream has all of the drain timeout."""
    upto = 800
    host = await kit.serve(Feed())
    reading = asyncio.create_task(read(kit, upto, burst, pause))
    await asyncio.sleep(1)
    await host.drain()
    assert await reading == list(range(upto))


async def test_draining_does_not_wait_for_a_reader_that_reads_no_more(
    kit: Kit,
) -> None:
    """It has 5 s, not the drain timeout; what it reads later ends `Unavailable`."""
    host = await kit.serve(Feed())
    reading = asyncio.create_task(read(kit, 1000, 10, 1000.0))
    await asyncio.sleep(1)
    loop = asyncio.get_running_loop()
    before = loop.time()
    await host.drain()
    assert 4 < loop.time() - before < 7  # on the kit's own clock
    with pytest.raises(Unavailable, match=r"feed.numbers is stopping"):
        await reading


async def of_never() -> AsyncIterator[str]:
    await asyncio.sleep(10_000)
    yield ""


async def test_a_restarted_instance_lets_its_streams_go(kit: Kit) -> None:
    """They would hold the old one for ever; a caller may ask the new one at once."""

    class Fragile(Service):
        supervision = Supervision(policy="restart")

        @endpoint
        async def ticks(self) -> AsyncIterator[int]:
            yield id(self)
            await asyncio.sleep(1000)

        @endpoint
        async def fail(self) -> None:
            raise RuntimeError("oh")

    await kit.serve(Fragile)
    client = kit.client(Fragile)
    ticks = client.ticks()
    old = await anext(ticks)
    with pytest.raises(Internal):
        await client.fail()
    with pytest.raises(Unavailable):
        await anext(ticks)
    assert await anext(client.ticks()) != old
