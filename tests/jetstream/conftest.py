"""A store of each kind: in memory, on a real server, on both event loops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kitmsg.bus.memory import MemoryBus
from kitmsg.bus.nats import NatsBus
from kitmsg.jetstream.opening import jetstream_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kitmsg.bus import Bus
    from kitmsg.bus.embedded import EmbeddedServer
    from kitmsg.jetstream import JetStream


@pytest.fixture(params=["memory", "nats", "nats-uvloop"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def anyio_backend(kind: str) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": kind == "nats-uvloop"}


@pytest.fixture
async def bus(kind: str, nats_server: EmbeddedServer) -> AsyncIterator[Bus]:
    bus: Bus = MemoryBus()
    if kind != "memory":
        bus = await NatsBus.connect(nats_server.url)
    yield bus
    await bus.close()


@pytest.fixture
def store(bus: Bus) -> JetStream:
    return jetstream_of(bus)
