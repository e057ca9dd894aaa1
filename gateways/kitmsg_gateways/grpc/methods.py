"""Methods that are served over gRPC, and the table of them.

A `Method` is one endpoint as gRPC has it: where its calls go, and the functions between its
messages and payloads on the bus, which `make_method` builds once.  `sources.py` makes the
tables; `call.py` needs to know no more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from kitmsg.codec import DECODE_ERRORS, JSON, MSGPACK, Codec, translate
from kitmsg.errors import DataLoss, Unknown
from kitmsg_gateways.edge.answers import DECODERS, ENCODERS
from kitmsg_gateways.grpc.convert import Misfit, reply_error, request_error
from kitmsg_gateways.grpc.errors import Failure

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from google.protobuf.message import Message

    from kitmsg.discovery.catalog import CatalogEndpoint
    from kitmsg.errors import KitError
    from kitmsg_gateways.grpc.convert import Converter, Converters
    from kitmsg_gateways.grpc.layout import Layout, Rpc

__all__ = ["Guarded", "Handler", "Method", "Recode", "Table", "Typed", "make_method"]

Handler: TypeAlias = Any  # grpc.RpcMethodHandler; grpcio has no types
Guarded: TypeAlias = Callable[..., Callable[[Any, Any], Awaitable[Any]]]
"""Makes a method of the gateway's own refuse strangers; see `Calls.guarded`."""

Recode: TypeAlias = Callable[[bytes], bytes]
"""Takes a message in one encoding; returns it in the other."""

Typed: TypeAlias = Callable[[str, Any], "Message | None"]
"""Takes a declared error's name and fields; returns it as a message, None for none."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Method:
    """One method.

    Attributes:
        path: ``/package.Service/Method``.
        endpoint: The endpoint on the bus.
        codec: How the bus carries its requests, items and results.
        decode: From a request message to a payload; raises `InvalidArgument` for one that
            is no such message.
        encode: From a payload of the service, a result or an item, to a message; raises
            `DataLoss` for one that does not fit.
        decode_item: From a message of the client's stream to an item; raises as `decode`.
        is_framed: Whether the first message of the client's stream is the request, for
            `decode`; otherwise all are items.
        typed: Makes messages of declared errors.
        error_reply: Makes a reply that tells of a declared error, where the .proto has a field
            for it; None where errors are statuses.
    """

    path: str
    endpoint: CatalogEndpoint
    codec: Codec
    decode: Recode
    encode: Recode
    decode_item: Recode | None = None
    is_framed: bool = False
    typed: Typed | None = None
    error_reply: Callable[[KitError], bytes] | None = None

    @property
    def takes_stream(self) -> bool:
        """Whether the client sends a stream."""
        return self.decode_item is not None

    @property
    def gives_stream(self) -> bool:
        """Whether the service answers with a stream."""
        return self.endpoint.stream in ("out", "both")


@dataclass(slots=True)
class Table:
    """Routing table: the methods that are served, by path.

    Attributes:
        methods: By path, ``/package.Service/Method``.
        services: Names of the services on the bus by their full gRPC names; "" for one
            that is known, but of which nothing is on the bus now.
        files: Descriptors, each after those it imports.
        waiting: Why a method that is known cannot be called now, by path.
        refused: Sentences about what cannot be served.
    """

    methods: dict[str, Method] = field(default_factory=dict)
    services: dict[str, str] = field(default_factory=dict)
    files: list[FileDescriptorProto] = field(default_factory=list)
    waiting: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


class _Coders:
    """Makes the coders of one method.

    Args:
        codec: How the bus carries it.
        wire: ``kit``, or ``gokit`` for an endpoint that speaks as Go kit does.
    """

    def __init__(self, codec: Codec, wire: str) -> None:
        self._codec = codec
        self._pack = ENCODERS[codec.name]
        self._unpack = DECODERS[codec.name]
        self._is_gokit = wire == "gokit"

    def decoder(self, converter: Converter) -> Recode:
        """Return a function from messages to payloads; it raises `InvalidArgument`."""
        decode, pack = converter.decoder(request_error), self._pack
        return lambda data: pack(decode(data))

    def encoder(self, converter: Converter, *, is_object: bool) -> Recode:
        """Return a function from payloads to messages; it raises `DataLoss`.

        Args:
            converter: Of the message.
            is_object: Whether the result is an object of itself; Go kit has others under
                ``v``.
        """
        encode, unpack = converter.encoder(reply_error), self._unpack
        if self._is_gokit:
            unpack = _gokit_decoder(unpack, is_object=is_object)
        name = self._codec.name

        def recode(data: bytes) -> bytes:
            try:
                value = unpack(data)
            except DECODE_ERRORS as exc:
                why = translate(exc, name)
                raise DataLoss(f"the reply cannot be read: {why}") from exc
            return encode(value)

        return recode

    def empty(self) -> Recode:
        """Return the decoder for the request of a stream whose messages are all items."""
        empty = self._pack({})
        return lambda _: empty


def _gokit_decoder(
    unpack: Callable[[bytes], Any], *, is_object: bool
) -> Callable[[bytes], Any]:
    """Return the decoder of Go kit's replies: ``{"v": ...}``, or ``{"err": "..."}``."""

    def decode(data: bytes) -> Any:
        value = unpack(data)
        if isinstance(value, dict):
            failure = value.get("err")
            if isinstance(failure, str) and failure:
                raise Failure(Unknown(failure), is_business=True)
            return value if is_object else value.get("v")
        return value

    return decode


def _typed_errors(converters: Converters, rpc: Rpc) -> Typed:
    """Return a function from the errors that a method declares to messages."""

    def typed(name: str, fields: Any) -> Message | None:
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
        layout: Of its messages.
        converters: Of those messages.
        rpc: It, in that layout.
        endpoint: Where its calls go.
    """
    codec = JSON if endpoint.wire == "gokit" or rpc.codec == JSON.name else MSGPACK
    coders = _Coders(codec, endpoint.wire)
    request, item = converters.inputs(rpc)
    is_object = layout.messages[rpc.output].form in ("struct", "union")
    return Method(
        path=path,
        endpoint=endpoint,
        codec=codec,
        decode=coders.empty() if request is None else coders.decoder(request),
        encode=coders.encoder(converters.of(rpc.output), is_object=is_object),
        decode_item=None if item is None else coders.decoder(item),
        is_framed=request is not None and item is not None,
        typed=_typed_errors(converters, rpc),
    )
