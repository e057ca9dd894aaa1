"""From messages to payloads on the bus and back: what a method's `read` and `write` are.

Built once for each method out of its messages' converters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from google.protobuf.message import DecodeError

from gateways.grpc.convert import Misfit, reply_error, request_error
from kitmsg.codec import DECODE_ERRORS, JSON, MSGPACK, Codec, translate
from kitmsg.errors import DataLoss, InvalidArgument, Unknown

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message as Proto

    from gateways.grpc.convert import Converter, Converters
    from gateways.grpc.layout import Layout, Rpc
    from gateways.grpc.method import Recode, Typed

__all__ = ["Coders", "codec_of", "is_object", "typed_errors"]

_packs: Final[dict[str, Callable[[Any], bytes]]] = {
    MSGPACK.name: msgspec.msgpack.Encoder().encode,
    JSON.name: msgspec.json.Encoder().encode,
}
_unpacks: Final[dict[str, Callable[[bytes], Any]]] = {
    MSGPACK.name: msgspec.msgpack.Decoder().decode,
    JSON.name: msgspec.json.Decoder().decode,
}


def codec_of(rpc: Rpc, wire: str) -> Codec:
    """Return the codec in which an endpoint is called."""
    return JSON if wire == "gokit" or rpc.codec == JSON.name else MSGPACK


class Coders:
    """Makes the coders of one method.

    Args:
        codec: How the bus carries it.
        wire: ``kit``, or ``gokit`` for an endpoint that speaks as Go kit does.
    """

    def __init__(self, codec: Codec, wire: str) -> None:
        self._codec = codec
        self._pack = _packs[codec.name]
        self._unpack = _unpacks[codec.name]
        self._is_gokit = wire == "gokit"

    def read(self, converter: Converter) -> Recode:
        """Return what makes payloads of messages; it raises `InvalidArgument`."""
        decode, pack = converter.decoder(request_error), self._pack
        return lambda data: pack(decode(data))

    def write(self, converter: Converter, *, is_object: bool) -> Recode:
        """Return what makes messages of payloads; it raises `DataLoss`.

        Args:
            converter: Of the message.
            is_object: Whether the result is an object of itself; Go kit has others under
                ``v``.
        """
        encode, unpack = converter.encoder(reply_error), self._unpack
        if self._is_gokit:
            unpack = _gokit_reader(unpack, is_object=is_object)
        name = self._codec.name

        def write(data: bytes) -> bytes:
            try:
                value = unpack(data)
            except DECODE_ERRORS as exc:
                why = translate(exc, name)
                raise DataLoss(f"the reply cannot be read: {why}") from exc
            return encode(value)

        return write

    def nothing(self) -> Recode:
        """Return what makes the request of a stream whose messages are all items."""
        empty = self._pack({})
        return lambda _: empty

    def frames(
        self, frame: type[Proto], request: Converter, item: Converter
    ) -> tuple[Recode, Recode]:
        """Return what reads the first message of a stream, and what reads the others.

        Args:
            frame: Message with a field ``request`` and a field ``item``, one of them set.
            request: Of the request in it.
            item: Of an item in it.
        """
        return (
            self._framed(frame, "request", request, "the first message of the stream"),
            self._framed(frame, "item", item, "each message after the first"),
        )

    def _framed(
        self, frame: type[Proto], name: str, converter: Converter, which: str
    ) -> Recode:
        parse, read, pack = frame.FromString, converter.read, self._pack

        def decode(data: bytes) -> bytes:
            try:
                message = parse(data)
                if not message.HasField(name):
                    raise InvalidArgument(f"{which} has to have {name!r}", field=name)
                return pack(read(getattr(message, name)))
            except Misfit as exc:
                raise request_error(str(exc), f"{name}.{exc.path}") from exc
            except (DecodeError, RecursionError) as exc:
                raise InvalidArgument(
                    f"{which} is no {frame.DESCRIPTOR.name}, or cut short"
                ) from exc

        return decode


def _gokit_reader(
    unpack: Callable[[bytes], Any], *, is_object: bool
) -> Callable[[bytes], Any]:
    """Return what reads Go kit's replies: ``{"v": ...}``, or ``{"err": "..."}``."""

    def read(data: bytes) -> Any:
        value = unpack(data)
        if isinstance(value, dict):
            failure = value.get("err")
            if isinstance(failure, str) and failure:
                raise Unknown(failure)
            return value if is_object else value.get("v")
        return value

    return read


def typed_errors(converters: Converters, rpc: Rpc) -> Typed:
    """Return what makes messages of the errors that a method declares."""

    def typed(name: str, fields: Any) -> Proto | None:
        message = rpc.errors.get(name)
        if message is None:
            return None
        try:
            return converters.of(message).message(fields)
        except Misfit:
            return None  # of another version; the error is told without it

    return typed


def is_object(layout: Layout, name: str) -> bool:
    """Tell whether a message stands for an object, not for a value in a box."""
    return layout.messages[name].form in ("struct", "union")
