"""Requests and responses of calls by name: plain objects, with no class to go by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kitmsg.codec import DECODE_ERRORS, ENCODE_ERRORS, JSON, MSGPACK, RAW, translate
from kitmsg.errors import DataLoss, InvalidArgument
from kitmsg.transport.typed import reply_codec

if TYPE_CHECKING:
    from kitmsg.codec import Codec
    from kitmsg.context import Context
    from kitmsg.message import Message
    from kitmsg.transport.typed import Encode

__all__ = ["decode_plain", "plain_encoder"]

_encoders = {codec.name: codec.encoder(Any) for codec in (MSGPACK, JSON)}
_encoders[RAW.name] = RAW.encoder(bytes)
_decoders = {codec.name: codec.decoder(Any) for codec in (MSGPACK, JSON)}
_decoders[RAW.name] = RAW.decoder(bytes)


def plain_encoder(codec: Codec) -> Encode:
    """Return the encoder of requests of any shape in `codec`."""
    write = _encoders[codec.name]

    def encode(ctx: Context, request: Any) -> bytes:
        ctx.codec = codec
        try:
            return write(request)
        except ENCODE_ERRORS as exc:
            raise InvalidArgument(
                f"the request has no form on the wire: {exc}"
            ) from exc

    return encode


def decode_plain(ctx: Context, message: Message) -> Any:
    """Return a response as plain objects, in whatever codec it came.

    Raises:
        DataLoss: It cannot be read.
    """
    codec = reply_codec(ctx, message).name
    try:
        return _decoders[codec](message.data)
    except DECODE_ERRORS as exc:
        why = translate(exc, codec)
        raise DataLoss(f"the reply cannot be read: {why}") from exc
