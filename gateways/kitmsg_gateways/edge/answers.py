"""A reply as plain values: the result in it, or the facts of the error that it tells of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from kitmsg.codec import DECODE_ERRORS, JSON, MSGPACK, RAW
from kitmsg.errors import DataLoss, InvalidArgument, KitError
from kitmsg.transport.replies import reply_codec
from kitmsg.wire import CONTENT_TYPE, ERROR

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.codec import Codec
    from kitmsg.discovery.catalog import CatalogEndpoint
    from kitmsg.message import Message

__all__ = ["DECODERS", "ENCODERS", "details", "error_facts", "value"]

ENCODERS: Final[dict[str, Callable[[Any], bytes]]] = {
    JSON.name: msgspec.json.Encoder().encode,
    MSGPACK.name: msgspec.msgpack.Encoder().encode,
}
"""Plain values to payloads, by the name of the codec."""

DECODERS: Final[dict[str, Callable[[bytes], Any]]] = {
    JSON.name: msgspec.json.Decoder().decode,
    MSGPACK.name: msgspec.msgpack.Decoder().decode,
}
"""Payloads to plain values, by the name of the codec."""


def value(reply: Message, codec: Codec, endpoint: CatalogEndpoint) -> Any:
    """Return what a reply holds: plain values, or bytes where it is no text.

    Args:
        reply: From the endpoint; no error.
        codec: How the request was encoded.
        endpoint: A foreign one may answer in any form; what is no JSON is bytes.

    Raises:
        DataLoss: It cannot be read.
    """
    if not reply.data:
        return None
    used = reply_codec(reply, codec)
    if used is RAW:
        return reply.data
    try:
        return DECODERS[used.name](reply.data)
    except DECODE_ERRORS as exc:
        if not endpoint.is_kit and CONTENT_TYPE not in reply.headers:
            return reply.data
        name = f"{endpoint.service}.{endpoint.name}"
        raise DataLoss(f"the reply of {name} cannot be read") from exc


def error_facts(error: KitError, codec: Codec) -> dict[str, Any]:
    """Return what a caller may know of an error, by name.

    ``code`` and ``message``, and where they are known ``request_id``, ``field``,
    ``retry_after`` (seconds), ``error`` and ``details`` (a service's own error and its
    fields).

    Args:
        error: As `EdgeCaller` raises it.
        codec: How the request was encoded.
    """
    reply = error.reply
    is_told = reply is not None and bool(reply.header_block)
    known = {
        "code": error.code.value,
        "message": str(error),
        "request_id": error.request_id or None,
        "field": (error.field or None) if isinstance(error, InvalidArgument) else None,
        "retry_after": error.retry_after,
        "error": (reply.headers.get(ERROR) or None) if is_told else None,
        "details": details(reply, codec) if is_told else None,
    }
    return {name: fact for name, fact in known.items() if fact is not None}


def details(reply: Message, codec: Codec) -> Any:
    """Return the plain fields of the error in a reply; None if they cannot be read."""
    try:
        decode = DECODERS.get(reply_codec(reply, codec).name)
        return decode(reply.data) if decode and reply.data else None
    except (*DECODE_ERRORS, KitError):
        return None
