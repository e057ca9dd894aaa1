"""Streams of NATS users who may not use every subject: a clear error, and soon."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from kitmsg import Kit, Service, endpoint
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.bus.nats import NatsBus
from kitmsg.errors import Internal, KitError, PermissionDenied, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

USERS = """
authorization { users: [
  { user: all, password: x }
  { user: mute, password: x, permissions: { publish: { deny: ["clock.ticks"] } } }
  { user: deaf, password: x, permissions: { subscribe: {
      allow: ["_INBOX.*.*", "clock.*", "_kit.>", "$SRV.>"] } } }
  { user: shy, password: x, permissions: { publish: { deny: ["_INBOX.*.s.*"] } } }
] }
"""

SECONDS = 4.0
"""Less than the five in which somebody has to take a stream."""


class Clock(Service):
    """Ticks."""

    @endpoint
    async def ticks(self) -> AsyncIterator[int]:
        """Tick once, and wait."""
        yield 1
        await asyncio.sleep(1000)

    @endpoint
    async def size(self, data: bytes) -> int:
        """Return the length."""
        return len(data)


@pytest.fixture(scope="module")
def users() -> Iterator[EmbeddedServer]:
    """A server whose users may do some things and not others."""
    with EmbeddedServer(jetstream=False, config=USERS) as server:
        yield server


async def kit_of(users: EmbeddedServer, name: str) -> Kit:
    """Return a kit connected as one of them."""
    return Kit(await NatsBus.connect(users.url, user=name, password="x"))


async def first_tick(service: Kit, client: Kit) -> int:
    """Serve, read one item, and close both."""
    try:
        await service.serve(Clock())
        async with asyncio.timeout(SECONDS):
            return await anext(client.client(Clock).ticks())
    finally:
        await service.drain(0)
        await client.close()
        await service.close()


async def test_who_may_not_ask(users: EmbeddedServer) -> None:
    """The subject is named."""
    with pytest.raises(PermissionDenied, match=r"may not send to 'clock.ticks'"):
        await first_tick(await kit_of(users, "all"), await kit_of(users, "mute"))


async def test_who_may_not_listen(users: EmbeddedServer) -> None:
    """The inbox is named, each time; long payloads say the same."""
    client = await kit_of(users, "deaf")
    service = await kit_of(users, "all")
    await service.serve(Clock())
    for _ in range(2):
        with pytest.raises(PermissionDenied, match=r"may not subscribe to .*\.s\.\*"):
            await anext(client.client(Clock).ticks())
    with pytest.raises(PermissionDenied, match=r"may not subscribe to .*\.s\.\*"):
        await client.client(Clock).size(b"x" * 2_000_000)
    assert await client.client(Clock).size(b"short") == 5
    await client.close()
    await service.close()


async def test_a_service_that_may_not_listen(users: EmbeddedServer) -> None:
    """Its caller is let go at once, and is not told that it may not itself."""
    service = await kit_of(users, "deaf")
    client = await kit_of(users, "all")
    await service.serve(Clock())
    for expected in ((Unavailable, KitError), (Internal,)):
        with pytest.raises(expected) as caught:
            async for _ in client.client(Clock).ticks():
                pass
        assert not isinstance(caught.value, PermissionDenied)
    await client.close()
    await service.close()


async def test_a_service_that_may_not_answer(users: EmbeddedServer) -> None:
    """Its work ends at once; nobody can tell the caller, whose time runs."""
    service = await kit_of(users, "shy")
    client = await kit_of(users, "all")
    host = await service.serve(Clock())
    asking = asyncio.create_task(anext(client.client(Clock).ticks()))
    async with asyncio.timeout(SECONDS):
        while not host.snapshots()["clock.ticks"].cancelled:
            await asyncio.sleep(0.01)
        while host.report().endpoints[0].data["running"]:  # the task takes its turn
            await asyncio.sleep(0.01)
    asking.cancel()
    await client.close()
    await service.close()
