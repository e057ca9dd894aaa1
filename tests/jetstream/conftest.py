"""A store of each kind: in memory, on a real server with both event loops, on a cluster."""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg.bus.memory import MemoryBus
from kitmsg.bus.nats import NatsBus
from kitmsg.errors import NotFound
from kitmsg.jetstream import StreamConfig
from kitmsg.jetstream.nats import NatsJetStream
from kitmsg.jetstream.opening import jetstream_of
from kitmsg.testing.loop import VirtualTimeLoop
from tests.jetstream.clusters import caught_up, ready, three

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from kitmsg.bus import Bus
    from kitmsg.bus.embedded import EmbeddedServer
    from kitmsg.jetstream import JetStream, Outgoing, PubAck, Stream


KINDS = [
    "memory",
    "nats",
    pytest.param("cluster", marks=[pytest.mark.slow, pytest.mark.timeout(120)]),
]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def anyio_backend(kind: str) -> tuple[str, dict[str, Any]]:
    """Memory has a clock that jumps: hours take no time."""
    if kind == "memory":
        return "asyncio", {"loop_factory": VirtualTimeLoop}
    return "asyncio", {"use_uvloop": kind == "nats-uvloop"}


@dataclass
class Cluster:
    """Three servers, which find each other in a while."""

    urls: list[str]
    is_ready: bool = False


@pytest.fixture(scope="session")
def nats_cluster() -> Iterator[Cluster]:
    """A cluster of three, for each process that runs tests."""
    with three() as servers:
        yield Cluster([server.url for server in servers.values()])


@pytest.fixture
async def bus(
    kind: str, nats_server: EmbeddedServer, request: pytest.FixtureRequest
) -> AsyncIterator[Bus]:
    bus: Bus = MemoryBus()
    if kind == "cluster":
        cluster: Cluster = request.getfixturevalue("nats_cluster")
        bus = await NatsBus.connect(cluster.urls)
        if not cluster.is_ready:
            await ready(bus)
            cluster.is_ready = True
    elif kind != "memory":
        bus = await NatsBus.connect(nats_server.url)
    yield bus
    await bus.close()


class _Replicated(NatsJetStream):
    """All that it makes is on three servers, and so is what was published."""

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus)
        self._servers = bus

    async def create_stream(self, config: StreamConfig) -> Stream:
        return await super().create_stream(replace(config, replicas=3))

    async def update_stream(self, config: StreamConfig) -> Stream:
        return await super().update_stream(replace(config, replicas=3))

    async def publish_many(
        self, messages: Iterable[Outgoing], *args: Any, **options: Any
    ) -> list[PubAck]:
        acks = await super().publish_many(messages, *args, **options)
        for stream in {ack.stream for ack in acks}:
            await caught_up(self._servers, stream)
        return acks


@pytest.fixture
def store(kind: str, bus: Bus) -> JetStream:
    return _Replicated(bus) if kind == "cluster" else jetstream_of(bus)


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
