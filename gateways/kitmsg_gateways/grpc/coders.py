"""From messages to payloads on the bus and back: what a method's `read` and `write` are.

Built once for each method out of its messages' converters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from kitmsg.codec import DECODE_ERRORS, JSON, MSGPACK, Codec, translate
from kitmsg.errors import DataLoss, Unknown
from kitmsg_gateways.grpc.convert import Misfit, reply_error, request_error
from kitmsg_gateways.grpc.method import Method
from kitmsg_gateways.grpc.status import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message as Proto

    from kitmsg.discovery.catalog import CatalogEndpoint
    from kitmsg_gateways.grpc.convert import Converter, Converters
    from kitmsg_gateways.grpc.layout import Layout, Rpc
    from kitmsg_gateways.grpc.method import Recode, Typed

__all__ = ["Coders", "make_method"]

_packs: Final[dict[str, Callable[[Any], bytes]]] = {
    MSGPACK.name: msgspec.msgpack.Encoder().encode,
    JSON.name: msgspec.json.Encoder().encode,
}
_unpacks: Final[dict[str, Callable[[bytes], Any]]] = {
    MSGPACK.name: msgspec.msgpack.Decoder().decode,
    JSON.name: msgspec.json.Decoder().decode,
}


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


def _gokit_reader(
    unpack: Callable[[bytes], Any], *, is_object: bool
) -> Callable[[bytes], Any]:
    """Return what reads Go kit's replies: ``{"v": ...}``, or ``{"err": "..."}``."""

    def read(data: bytes) -> Any:
        value = unpack(data)
        if isinstance(value, dict):
            failure = value.get("err")
            if isinstance(failure, str) and failure:
                raise Failure(Unknown(failure), is_business=True)
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


def make_method(
    path: str,
    layout: Layout,
    converters: Converters,
    rpc: Rpc,
    endpoint: CatalogEndpoint,
) -> Method:
    """Return the method that stands for an endpoint.

    Args:
        path: ``/package.Service/Method``.
        layout: What its messages are.
        converters: Of those messages.
        rpc: It, in that layout.
        endpoint: Where its calls go.
    """
    codec = JSON if endpoint.wire == "gokit" or rpc.codec == JSON.name else MSGPACK
    coders = Coders(codec, endpoint.wire)
    input_, output = converters.of(rpc.input), converters.of(rpc.output)
    form = layout.messages[rpc.input].form
    item = None
    if not rpc.takes_stream:
        read = coders.read(input_)
    elif form == "frame":
        request, one = (
            input_.part(slot.name, converters.of(slot.type))
            for slot in layout.messages[rpc.input].slots
        )
        read, item = coders.read(request), coders.read(one)
    else:
        read, item = coders.nothing(), coders.read(input_)
    is_object = layout.messages[rpc.output].form in ("struct", "union")
    return Method(
        path=path,
        endpoint=endpoint,
        codec=codec,
        read=read,
        write=coders.write(output, is_object=is_object),
        item=item,
        is_framed=rpc.takes_stream and form == "frame",
        typed=typed_errors(converters, rpc),
    )
