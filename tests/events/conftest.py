"""Kits with a store: in memory and virtual time, and on a server of their own."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

import kitmsg
from kitmsg import Kit
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.bus.memory import MemoryBus
from kitmsg.testing.loop import VirtualTimeLoop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager


@pytest.fixture(params=["memory", "nats"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def anyio_backend(kind: str) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop} if kind == "memory" else {}


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    """A server of this test's own, because streams have names that tests share."""
    with EmbeddedServer() as server:
        yield server


@pytest.fixture
async def kit(kind: str, request: pytest.FixtureRequest) -> AsyncIterator[Kit]:
    """A kit that makes the streams that it needs."""
    if kind == "memory":
        async with kitmsg.connect(bus=MemoryBus()) as made:
            yield made
        return
    server: EmbeddedServer = request.getfixturevalue("server")
    async with kitmsg.connect(server.url, makes_streams=True) as made:
        yield made


@pytest.fixture
def elsewhere(
    kind: str, kit: Kit, request: pytest.FixtureRequest
) -> Callable[[], AbstractAsyncContextManager[Kit]]:
    """Makes another kit on the same store, as another process has it."""

    @contextlib.asynccontextmanager
    async def make() -> AsyncIterator[Kit]:
        if kind == "memory":
            other = Kit(kit.bus)
            yield other
            await other.drain()
            return
        server: EmbeddedServer = request.getfixturevalue("server")
        async with kitmsg.connect(server.url, makes_streams=True) as other:
            yield other

    return make
