"""Silence is absence only where the bus itself is heard."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

import kitmsg
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.bus.nats import NatsBus
from kitmsg.discovery.catalog import Catalog
from kitmsg.discovery.directory import Directory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Greeter(kitmsg.Service):
    """Somebody to find."""

    @kitmsg.endpoint
    async def hello(self) -> str:
        return "hello"


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    """A server of one test's own, which it may stop."""
    async with EmbeddedServer() as server:
        yield server


async def test_a_frozen_bus_takes_nobody_from_the_list(server: EmbeddedServer) -> None:
    """Rounds in which the bus says nothing do not count; they do when it is back."""
    async with kitmsg.connect(server.url) as kit, kitmsg.connect(server.url) as other:
        await other.serve(Greeter())
        directory = Directory(kit.bus, interval=0.1)
        await directory.start()
        server.pause()
        try:
            for _ in range(3):
                await directory.refresh(timeout=0.3)
            await asyncio.sleep(1.0)
        finally:
            server.resume()
        assert [info.name for info in directory.instances] == ["greeter"]
        await directory.stop()


async def test_a_catalog_is_ready_when_the_bus_was_heard(
    server: EmbeddedServer,
) -> None:
    """Not when it could have been: a gateway that knows nothing says so until then."""
    bus = await NatsBus.connect(server.url)
    server.pause()
    catalog = Catalog(bus, interval=0.1)
    try:
        await catalog.start()
        assert not catalog.is_ready
    finally:
        server.resume()
    await asyncio.wait_for(_heard(catalog), 10)
    await catalog.stop()
    await bus.close()


async def _heard(catalog: Catalog) -> None:
    while not catalog.is_ready:
        await asyncio.sleep(0.05)
