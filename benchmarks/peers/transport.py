"""kitmsg in Go kit's style: a function, its coders, `transport.Server` and `Client`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import kitmsg
from kitmsg.codec import JSON, MSGPACK
from kitmsg.schema import signature
from kitmsg.service.declare import DEFAULTS
from kitmsg.transport import (
    Client,
    Intake,
    Server,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)

if TYPE_CHECKING:
    from benchmarks.peers import Call, Setting

__all__ = ["connect", "serve"]

_SUBJECT = "transport.sum"


async def sum_(a: int, b: int) -> int:
    """Return the sum of two numbers."""
    return a + b


_signature = signature(sum_)


async def serve(setting: Setting) -> Server:
    """Serve sum, all defaults off."""
    kit = await kitmsg.connect(setting.url)
    server = Server(
        kit.bus,
        _SUBJECT,
        _signature.adapter(sum_),
        decode=decode_request(_signature),
        encode=encode_response(_signature),
        intake=Intake(kit.bus, "transport", off=DEFAULTS),
    )
    await server.start()
    return server


async def connect(setting: Setting) -> Call:
    """Return a call of sum."""
    kit = await kitmsg.connect(setting.url)
    codec = JSON if setting.codec == "json" else MSGPACK
    client: Client[Any, int] = Client(
        kit.bus,
        _SUBJECT,
        encode=encode_request(_signature, codec),
        decode=decode_response(_signature),
    )
    call, context, bind = client.endpoint(), kitmsg.current(), _signature.bind
    return lambda: call(context, bind(1, 2))
