"""nats-py with a plain callback; variant ``asyncio`` runs it without uvloop.

Variant ``gokit`` answers Go kit's callers, a variant with a dot is the subject to serve.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgpack
import nats

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

    from benchmarks.peers import Call, Setting

__all__ = ["coders", "connect", "serve"]


def coders(codec: str) -> tuple[Any, Any]:
    """Return how a program without a framework writes and reads `codec`."""
    if codec == "msgpack":
        return msgpack.packb, msgpack.unpackb
    return lambda value: json.dumps(value).encode(), json.loads


async def serve(setting: Setting) -> Client:
    """Serve sum."""
    client = await nats.connect(setting.url)
    write, read = coders(setting.codec)
    is_gokit = setting.variant == "gokit"

    async def answer(message: Msg) -> None:
        request = read(message.data)
        result = request["a"] + request["b"]
        await message.respond(write({"v": result} if is_gokit else result))

    await client.subscribe(_subject(setting), "q", answer)
    await client.flush()
    return client


async def connect(setting: Setting) -> Call:
    """Return a call of sum."""
    client = await nats.connect(setting.url)
    write, read = coders(setting.codec)
    subject = _subject(setting)

    async def call() -> int:
        reply = await client.request(subject, write({"a": 1, "b": 2}), timeout=5.0)
        result: int = read(reply.data)
        return result

    return call


def _subject(setting: Setting) -> str:
    variant = setting.variant
    return variant if "." in variant else f"natspy{variant}.sum"
