"""FastStream's request and reply over NATS, as its guide writes it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from faststream.nats import NatsBroker

if TYPE_CHECKING:
    from benchmarks.peers import Call, Setting

__all__ = ["connect", "make_broker", "serve"]


def make_broker(url: str) -> NatsBroker:
    """Return a broker that writes no line per message."""
    return NatsBroker(url, log_level=logging.DEBUG, logger=None)


async def serve(setting: Setting) -> NatsBroker:
    """Serve sum."""
    broker = make_broker(setting.url)

    @broker.subscriber("stream.sum", queue="q")
    async def sum_(a: int, b: int) -> int:
        return a + b

    await broker.start()
    return broker


async def connect(setting: Setting) -> Call:
    """Return a call of sum."""
    broker = make_broker(setting.url)
    await broker.start()

    async def call() -> int:
        reply = await broker.request({"a": 1, "b": 2}, "stream.sum", timeout=5.0)
        result: int = await reply.decode()  # type: ignore[assignment]
        return result

    return call
