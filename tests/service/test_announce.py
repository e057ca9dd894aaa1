"""kitmsg.service.host: who listens hears of an instance that comes, goes and comes back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kitmsg import Kit, Service, endpoint

if TYPE_CHECKING:
    from kitmsg.bus.memory import MemoryBus


class Greeter(Service):
    """Says hello."""

    @endpoint
    async def hello(self, name: str) -> str:
        return f"Hello, {name}!"


async def test_says_when_it_comes_goes_and_comes_back(kit: Kit) -> None:
    """On start, after a lost connection, and on drain; a drained one is silent."""
    said: list[str] = []
    kit.bus.subscribe("_kit.up.*", lambda _: said.append("up"))
    kit.bus.subscribe("_kit.down.*", lambda _: said.append("down"))
    bus: MemoryBus = kit.bus  # type: ignore[assignment]

    async def blink() -> None:
        await bus.flush()
        bus.disconnect()
        bus.reconnect()
        await asyncio.sleep(0.01)

    host = await kit.serve(Greeter())
    await blink()
    await kit.drain()
    await blink()
    assert said == ["up", "up", "down"]
    assert host.info.name == "greeter"
