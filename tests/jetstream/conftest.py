"""A store of each kind: in memory, on a real server, on both event loops."""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg.bus.memory import MemoryBus
from kitmsg.bus.nats import NatsBus
from kitmsg.errors import NotFound
from kitmsg.jetstream import StreamConfig
from kitmsg.jetstream.opening import jetstream_of
from kitmsg.testing.loop import VirtualTimeLoop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kitmsg.bus import Bus
    from kitmsg.bus.embedded import EmbeddedServer
    from kitmsg.jetstream import JetStream, Stream


@pytest.fixture(params=["memory", "nats", "nats-uvloop"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def anyio_backend(kind: str) -> tuple[str, dict[str, Any]]:
    """Memory has a clock that jumps: hours take no time."""
    if kind == "memory":
        return "asyncio", {"loop_factory": VirtualTimeLoop}
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


@pytest.fixture
def name() -> str:
    """A name that no other stream of the server has; its subjects begin with it."""
    return f"s-{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def stream(store: JetStream, name: str) -> AsyncIterator[Stream]:
    """A stream of all subjects below `name`, which can do everything."""
    yield await store.create_stream(
        StreamConfig(
            name=name,
            subjects=(f"{name}.>",),
            storage="memory",
            allow_ttl=True,
            allow_schedules=True,
            allow_atomic=True,
        )
    )
    with contextlib.suppress(NotFound):  # deleted by the test
        await store.delete_stream(name)
