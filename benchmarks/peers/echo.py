"""kitmsg's connection, and nothing on it: what no layer above can outrun.

A variant is the subject to ask, to load another server with as little as can be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kitmsg.bus.nats import NatsBus

if TYPE_CHECKING:
    from benchmarks.peers import Call, Setting
    from kitmsg.message import Message

__all__ = ["connect", "serve"]

_SUBJECT: Final = "echo.sum"


async def serve(setting: Setting) -> NatsBus:
    """Send every payload back as it came."""
    bus = await NatsBus.connect(setting.url)
    publish = bus.publish

    def echo(message: Message) -> None:
        publish(message.reply, message.data)

    bus.subscribe(_SUBJECT, echo, "q")
    await bus.flush()
    return bus


async def connect(setting: Setting) -> Call:
    """Return a call that sends a payload of sum's length."""
    bus = await NatsBus.connect(setting.url)
    request, subject = bus.request, setting.variant or _SUBJECT

    async def call() -> int:
        await request(subject, b'{"a":1,"b":2}', 5.0)
        return 3

    return call
