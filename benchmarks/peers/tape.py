"""A stream of items of 1 kB over the bus: kitmsg's service and client, no gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import kitmsg
from kitmsg import Kit, Service, endpoint
from kitmsg.codec import JSON, MSGPACK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from benchmarks.peers import Call, Setting

__all__ = ["ITEM", "ITEMS", "connect", "serve"]

ITEM: Final = "x" * 1000
ITEMS: Final = 1000
"""Items in one stream, so in one call."""


class Tape(Service):
    """Plays items."""

    @endpoint
    async def items(self, count: int) -> AsyncIterator[str]:
        """Give the same item again and again."""
        for _ in range(count):
            yield ITEM


async def serve(setting: Setting) -> Kit:
    """Serve items."""
    kit = await kitmsg.connect(setting.url)
    await kit.serve(Tape())
    return kit


async def connect(setting: Setting) -> Call:
    """Return a call that reads a stream to its end."""
    kit = await kitmsg.connect(setting.url)
    client = kit.client(Tape, codec=JSON if setting.codec == "json" else MSGPACK)

    async def call() -> int:
        count = 0
        async for item in client.items(ITEMS):
            count += item == ITEM
        if count != ITEMS:
            raise ValueError(f"wanted {ITEMS} items, got {count}")
        return 3  # what every call of a benchmark returns

    return call
