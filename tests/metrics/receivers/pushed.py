"""A provider whose metrics are pushed to a receiver when a test says so."""

from __future__ import annotations

from kitmsg.metrics.address import backend_of, parse
from kitmsg.metrics.memory import MemoryMetrics
from kitmsg.metrics.push import Pusher

__all__ = ["Pushed"]


class Pushed:
    """The sending half of a `kitmsg.testing.metrics.Receiver`.

    Args:
        address: Where it is pushed to.
    """

    def __init__(self, address: str) -> None:
        self.metrics = MemoryMetrics(fine=True)
        backend = backend_of(parse(address))
        assert backend is not None
        self.pusher = Pusher(backend, self.metrics.collect, name=address, interval=10)

    async def push(self) -> None:
        assert await self.pusher.flush(), "the receiver did not take them"

    async def close(self) -> None:
        await self.pusher.close()
