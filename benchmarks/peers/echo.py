"""kitmsg's connection, and nothing on it: what no layer above can outrun."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitmsg.bus.nats import NatsBus

if TYPE_CHECKING:
    from benchmarks.peers import Call, Setting
    from kitmsg.message import Message

__all__ = ["connect", "serve"]


async def serve(setting: Setting) -> NatsBus:
    """Send every payload back as it came."""
    bus = await NatsBus.connect(setting.url)
    publish = bus.publish

    def echo(message: Message) -> None:
        publish(message.reply, message.data)

    bus.subscribe("echo.sum", echo, "q")
    await bus.flush()
    return bus


async def connect(setting: Setting) -> Call:
    """Return a call that sends a payload of sum's length."""
    bus = await NatsBus.connect(setting.url)
    request = bus.request

    async def call() -> int:
        await request("echo.sum", b'{"a":1,"b":2}', 5.0)
        return 3

    return call
