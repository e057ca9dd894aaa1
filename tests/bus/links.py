"""A NatsBus seen from outside: its address, the changes of its link, asks in flight."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kitmsg.bus.embedded import EmbeddedServer
    from kitmsg.bus.nats import NatsBus
    from kitmsg.message import Message


def address(server: EmbeddedServer) -> str:
    return server.url.removeprefix("nats://")


class Changes:
    """What the watchers of a bus are told; await the next of one kind."""

    def __init__(self, bus: NatsBus) -> None:
        self.seen: list[bool] = []
        self._changed = asyncio.Event()
        bus.watch(self._note)

    def _note(self, up: bool) -> None:
        self.seen.append(up)
        self._changed.set()

    async def until(self, *expected: bool) -> None:
        """Wait until exactly `expected` was told."""
        while self.seen != list(expected):
            self._changed.clear()
            await self._changed.wait()


def echo(bus: NatsBus) -> Any:
    return lambda m: bus.publish(m.reply, m.data)


async def ask_in_flight(bus: NatsBus, subject: str = "hang") -> asyncio.Task[Message]:
    """Return an ask that a silent service has received."""
    received = asyncio.Event()
    bus.subscribe(subject, lambda _: received.set())
    task = asyncio.create_task(bus.request(subject, b"", 30))
    await received.wait()
    return task


async def works(bus: NatsBus) -> None:
    """See that `bus` moves messages, and close it."""
    bus.subscribe("echo", echo(bus), "q")
    assert (await bus.request("echo", b"x", 5)).data == b"x"
    await bus.close()
