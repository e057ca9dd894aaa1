"""Encoders and decoders made from a method's signature; built once, kept.

The codec of an answer is the codec of its request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from kitmsg.codec import (
    DECODE_ERRORS,
    ENCODE_ERRORS,
    JSON,
    MSGPACK,
    RAW,
    Codec,
    by_content_type,
    sniff,
)
from kitmsg.context import Context
from kitmsg.errors import InvalidArgument
from kitmsg.message import Message
from kitmsg.schema import Signature
from kitmsg.schema.signatures import unguarded
from kitmsg.transport import replies
from kitmsg.wire import CONTENT_TYPE

__all__ = [
    "Decode",
    "Encode",
    "decode_item",
    "decode_request",
    "decode_response",
    "encode_item",
    "encode_request",
    "encode_response",
    "reply_codec",
    "request_codec",
]

Decode: TypeAlias = Callable[[Context, Message], Any]
"""Takes a context and a message; returns the request or response in it."""

Encode: TypeAlias = Callable[[Context, Any], bytes]
"""Takes a context and a request or response; returns its payload."""

_BRACE: Final = ord("{")
_SMALL_MAP: Final = (
    0x80  # first byte of a msgpack map; as many entries, up to 15, are added
)


def _for_each_codec(
    make: Callable[[Codec], Callable[[Any], Any]],
) -> dict[str, Callable[[Any], Any]]:
    """Return a coder for each codec that can carry the type, by codec name."""
    coders = {}
    for codec in (MSGPACK, JSON, RAW):
        try:
            coders[codec.name] = make(codec)
        except TypeError:
            if codec is not RAW:
                raise
    return coders


def _quick(
    decoders: dict[str, Callable[[Any], Any]],
) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return what reads JSON, and msgpack, where nothing is wrong with it."""
    return unguarded(decoders[JSON.name]), unguarded(decoders[MSGPACK.name])


def decode_request(signature: Signature) -> Decode:
    """Return a decoder of requests in whatever codec they come.

    It raises `InvalidArgument` for a body that does not fit, naming the field.
    """
    decoders = _for_each_codec(signature.request_decoder)
    from_json, from_msgpack = decoders[JSON.name], decoders[MSGPACK.name]

    def decode(ctx: Context, message: Message) -> Any:
        data = message.data
        if (
            message.is_plain and data
        ):  # as nearly always: the first byte of the map tells
            first = data[0]
            if first == _BRACE:
                ctx.codec = JSON
                return from_json(data)
            if first & 0xF0 == _SMALL_MAP:
                ctx.codec = MSGPACK
                return from_msgpack(data)
        codec = ctx.codec
        if codec is None:  # the server has not looked
            codec = ctx.codec = request_codec(message)
        decoder = decoders.get(codec.name)
        if decoder is None:
            raise InvalidArgument(
                f"{ctx.endpoint} takes JSON or msgpack, not {codec.content_type}",
                field=CONTENT_TYPE,
            )
        return decoder(message.data)

    return decode


def request_codec(message: Message) -> Codec:
    """Return the codec of a request: as its header says, else as its first byte does.

    Raises:
        InvalidArgument: The header names none we know, or came twice.
    """
    if not message.is_plain and message.header_block:
        named = message.headers.single(CONTENT_TYPE)
        if named:
            return by_content_type(named)
    return sniff(message.data)


def encode_response(signature: Signature) -> Encode:
    """Return an encoder of responses in the codec of their request.

    Where that is raw and the response is no bytes, it is msgpack.
    """
    encoders = _for_each_codec(signature.response_encoder)
    to_json, to_msgpack = encoders[JSON.name], encoders[MSGPACK.name]
    to_raw = encoders.get(RAW.name, to_msgpack)

    def encode(ctx: Context, response: Any) -> bytes:
        codec = ctx.codec
        data: bytes
        if codec is JSON:
            data = to_json(response)
        elif codec is RAW:
            data = to_raw(response)
        else:
            data = to_msgpack(response)
        return data

    return encode


def encode_request(signature: Signature, codec: Codec = MSGPACK) -> Encode:
    """Return an encoder of requests in `codec`.

    It raises `InvalidArgument` for a value that has no form on the wire.
    """
    return _encode_sent(signature.request_encoder(codec), codec)


def _encode_sent(encoder: Callable[[Any], bytes], codec: Codec) -> Encode:
    quick = unguarded(encoder)

    def encode(ctx: Context, value: Any) -> bytes:
        ctx.codec = codec
        data: bytes
        try:
            data = quick(value)
        except ENCODE_ERRORS:
            try:
                data = encoder(value)
            except (TypeError, ValueError) as exc:
                raise InvalidArgument(f"{ctx.endpoint}: {exc}") from exc
        return data

    return encode


def decode_item(signature: Signature) -> Decode:
    """Return a decoder of items that a caller streams, in the codec of its request.

    It raises `InvalidArgument` for one that does not fit, naming the field.
    """
    decoders = _for_each_codec(signature.item_decoder)

    def decode(ctx: Context, message: Message) -> Any:
        codec = ctx.codec or MSGPACK
        return (decoders.get(codec.name) or decoders["msgpack"])(message.data)

    return decode


def encode_item(signature: Signature, codec: Codec = MSGPACK) -> Encode:
    """Return an encoder of items that a caller streams, in `codec`.

    It raises `InvalidArgument` for a value that has no form on the wire.
    """
    return _encode_sent(signature.item_encoder(codec), codec)


def decode_response(signature: Signature) -> Decode:
    """Return a decoder of replies: in the request's codec unless their header says else.

    Without that header, a reply that cannot be of the request's codec is read as the
    other: services in other languages may answer JSON to anything.  It raises `DataLoss`
    for a reply that does not fit.
    """
    decoders = _for_each_codec(signature.response_decoder)
    from_json, from_msgpack = _quick(decoders)

    def decode(ctx: Context, message: Message) -> Any:
        if not message.header_block or message.is_plain:
            codec = ctx.codec
            try:
                if codec is JSON:
                    return from_json(message.data)
                if codec is MSGPACK:
                    return from_msgpack(message.data)
            except DECODE_ERRORS:
                pass  # below it is told what is wrong, unless the codec is another
        name = reply_codec(ctx, message).name
        return (decoders.get(name) or decoders["msgpack"])(message.data)

    return decode


def reply_codec(ctx: Context, message: Message) -> Codec:
    """Return the codec of a reply: as its header says, else its request's, if it can be.

    Raises:
        DataLoss: The header names none we know.
    """
    return replies.reply_codec(message, ctx.codec or MSGPACK)
