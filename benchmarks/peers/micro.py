"""nats-py's own services: `nats.micro`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nats
from nats import micro

from benchmarks.peers.natspy import coders

if TYPE_CHECKING:
    from nats.micro.request import Request
    from nats.micro.service import Service

    from benchmarks.peers import Call, Setting

__all__ = ["connect", "serve"]


async def serve(setting: Setting) -> Service:
    """Serve sum."""
    client = await nats.connect(setting.url)
    write, read = coders(setting.codec)
    service = await micro.add_service(client, name="micro", version="1.0.0")

    async def answer(request: Request) -> None:
        values = read(request.data)
        await request.respond(write(values["a"] + values["b"]))

    await service.add_endpoint(name="sum", subject="micro.sum", handler=answer)
    await client.flush()
    return service


async def connect(setting: Setting) -> Call:
    """Return a call of sum; the client side is nats-py's."""
    client = await nats.connect(setting.url)
    write, read = coders(setting.codec)

    async def call() -> int:
        reply = await client.request("micro.sum", write({"a": 1, "b": 2}), timeout=5.0)
        result: int = read(reply.data)
        return result

    return call
