"""A cluster of three servers on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
from contextlib import ExitStack
from typing import TYPE_CHECKING

from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.errors import DeadlineExceeded, FailedPrecondition, KitError, Unavailable
from kitmsg.jetstream.api import Api
from kitmsg.wire import JS_API
from tests.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kitmsg.bus import Bus
    from kitmsg.bus.nats import NatsBus

__all__ = ["PASSES", "caught_up", "leader", "ready", "three"]

PASSES = (Unavailable, DeadlineExceeded, FailedPrecondition)


@contextlib.contextmanager
def three() -> Iterator[dict[str, EmbeddedServer]]:
    """Three servers by name, which find each other in a while; see `ready`."""
    ports = free_ports(3)
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


async def ready(bus: NatsBus) -> None:
    """Return when the three can store something on all of them."""
    api = Api(bus, 2.0)
    config = {"name": "probe", "storage": "memory", "num_replicas": 3}
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(KitError):
                await api.ask("STREAM.CREATE.probe", config)
                await api.ask("STREAM.DELETE.probe")
                return
            await asyncio.sleep(0.1)


async def leader(bus: NatsBus, stream: str) -> str:
    """Return the server that leads a stream."""
    reply = await bus.request(f"{JS_API}.STREAM.INFO.{stream}", b"", 5)
    return str(json.loads(reply.data)["cluster"]["leader"])


async def caught_up(bus: Bus, stream: str) -> None:
    """Return when all servers have what the leader of a stream has."""
    async with asyncio.timeout(20):
        while True:
            reply = await bus.request(f"{JS_API}.STREAM.INFO.{stream}", b"", 5)
            replicas = json.loads(reply.data)["cluster"]["replicas"]
            if all(one["current"] and not one.get("lag") for one in replicas):
                return
            await asyncio.sleep(0.01)
