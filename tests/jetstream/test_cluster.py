"""Key-value buckets on a cluster of three servers, one of which dies."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.bus.nats import NatsBus
from kitmsg.errors import Aborted, DeadlineExceeded, FailedPrecondition, Unavailable
from kitmsg.jetstream import Bucket
from kitmsg.jetstream.nats import NatsJetStream
from kitmsg.wire import JS_API

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kitmsg.jetstream import KeyValue

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

PASSES = (Unavailable, DeadlineExceeded, FailedPrecondition)


@pytest.fixture(params=["nats"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def cluster() -> Iterator[dict[str, EmbeddedServer]]:
    """Three servers by name."""
    ports = _free_ports(3)
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
    with ExitStack() as stack:
        yield {
            f"n{i}": stack.enter_context(
                EmbeddedServer(
                    config=f"server_name: n{i}\ncluster {{ name: c, routes: [{routes}],"
                    f' listen: "127.0.0.1:{port}" }}'
                )
            )
            for i, port in enumerate(ports)
        }


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


async def opened(bus: NatsBus, name: str) -> KeyValue:
    """Return a bucket on all three, once they have found each other."""
    options = Bucket(replicas=3, storage="memory", timeout=2.0)
    async with asyncio.timeout(60):
        while True:
            try:
                return await NatsJetStream(bus).key_value(name, options)
            except PASSES:
                await asyncio.sleep(0.1)


async def leader(bus: NatsBus, name: str) -> str:
    """Return the server that leads a bucket."""
    reply = await bus.request(f"{JS_API}.STREAM.INFO.KV_{name}", b"", 5)
    return str(json.loads(reply.data)["cluster"]["leader"])


async def test_a_count_survives_the_death_of_its_leader(
    cluster: dict[str, EmbeddedServer],
) -> None:
    """No acknowledged step is lost, and a watch goes on to the last one."""
    bus = await NatsBus.connect(",".join(one.url for one in cluster.values()))
    bucket = await opened(bus, "count")
    await bucket.put("n", b"0")
    acknowledged = 0
    async with bucket.watch("n") as changes:
        for step in range(60):
            if step == 20:
                cluster[await leader(bus, "count")].kill()
            acknowledged = await _add(bucket, acknowledged)
        value = b""
        async with asyncio.timeout(60):
            while value != b"60":
                value = (await anext(changes)).value
    assert acknowledged == 60
    assert (await bucket.get("n")).value == b"60"
    await bus.close()


async def _add(bucket: KeyValue, before: int) -> int:
    """Add one; an attempt without an answer may have done it, as the value tells."""
    async with asyncio.timeout(60):
        while True:
            try:
                entry = await bucket.get("n")
                assert int(entry.value) in (before, before + 1)
                if int(entry.value) == before:
                    more = str(before + 1).encode()
                    await bucket.update("n", more, entry.revision)
            except (*PASSES, Aborted):
                await asyncio.sleep(0.05)
            else:
                return before + 1
