"""grpcio's own asyncio server with the work in process, and the client of every peer.

The variant of a server is ``unary`` or ``items``, or ``after:SECONDS`` for one that takes
its time; that of a client says what it calls.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from benchmarks.peers.tape import ITEM, ITEMS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from benchmarks.peers import Call, Setting

__all__ = ["connect", "serve", "summing"]

_SERVICE: Final = "calculator.Calculator"

# As `kitmsg export proto` writes them: (message, its fields with their types).
_INT64: Final = descriptor_pb2.FieldDescriptorProto.TYPE_INT64
_STRING: Final = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
_MESSAGES: Final = {
    "SumRequest": {"a": _INT64, "b": _INT64},
    "SumResponse": {"value": _INT64},
    "ItemsRequest": {"count": _INT64},
    "ItemsResponse": {"value": _STRING},
}


def _message_types() -> dict[str, Any]:
    """Return a class for each message, as protoc would make it."""
    file = descriptor_pb2.FileDescriptorProto(
        name="benchmark.proto", package="calculator", syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, type_) in enumerate(fields.items(), 1):
            message.field.add(
                name=field,
                number=number,
                type=type_,
                label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"calculator.{name}")
        )
        for name in _MESSAGES
    }


_types: Final = _message_types()


async def _sum(request: Any, _: Any) -> Any:
    return _types["SumResponse"](value=request.a + request.b)


def _sum_after(seconds: float) -> Any:
    async def late(request: Any, context: Any) -> Any:
        await asyncio.sleep(seconds)
        return await _sum(request, context)

    return late


async def _items(request: Any, _: Any) -> AsyncIterator[Any]:
    for _number in range(request.count):
        yield _types["ItemsResponse"](value=ITEM)


class _Server:
    """One that `benchmarks.peers` can stop."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    async def stop(self) -> None:
        """Stop at once."""
        await self._server.stop(None)


async def serve(setting: Setting) -> _Server:
    """Serve sum and items."""
    server = grpc.aio.server()
    seconds = float(
        setting.variant.removeprefix("after:") if ":" in setting.variant else 0
    )
    handlers = {
        "Sum": grpc.unary_unary_rpc_method_handler(
            _sum_after(seconds) if seconds else _sum,
            request_deserializer=_types["SumRequest"].FromString,
            response_serializer=_types["SumResponse"].SerializeToString,
        ),
        "Items": grpc.unary_stream_rpc_method_handler(
            _items,
            request_deserializer=_types["ItemsRequest"].FromString,
            response_serializer=_types["ItemsResponse"].SerializeToString,
        ),
    }
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(_SERVICE, handlers),)
    )
    server.add_insecure_port(f"127.0.0.1:{setting.port}")
    await server.start()
    return _Server(server)


async def connect(setting: Setting) -> Call:
    """Return a call of sum, or one that reads a stream of items to its end."""
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{setting.port}")
    return _reader(channel) if setting.variant == "items" else summing(channel)


def summing(channel: grpc.aio.Channel, service: str = _SERVICE) -> Call:
    """Return a call of a service's sum through `channel`."""
    method = channel.unary_unary(
        f"/{service}/Sum",
        request_serializer=_types["SumRequest"].SerializeToString,
        response_deserializer=_types["SumResponse"].FromString,
    )
    request = _types["SumRequest"]

    async def call() -> int:
        response = await method(request(a=1, b=2))
        result: int = response.value
        return result

    return call


def _reader(channel: Any) -> Call:
    method = channel.unary_stream(
        f"/{_SERVICE}/Items",
        request_serializer=_types["ItemsRequest"].SerializeToString,
        response_deserializer=_types["ItemsResponse"].FromString,
    )
    request = _types["ItemsRequest"](count=ITEMS)

    async def call() -> int:
        count = 0
        async for item in method(request):
            count += item.value == ITEM
        if count != ITEMS:
            raise ValueError(f"wanted {ITEMS} items, got {count}")
        return 3  # what every call of a benchmark returns

    return call
