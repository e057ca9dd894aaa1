"""The endpoints of a gRPC server, by a class or by descriptors."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from kitmsg.codec import MSGPACK
from kitmsg.errors import FailedPrecondition, Unknown
from kitmsg.idl.naming import snake
from kitmsg.service.described import describe
from kitmsg_gateways.grpc.bind import bind
from kitmsg_gateways.grpc.convert import Converters, Misfit, reply_error, request_error
from kitmsg_gateways.grpc.errors import reason
from kitmsg_gateways.grpc.layout import lay_out
from kitmsg_gateways.grpc.upstream.call import GrpcMethod
from kitmsg_gateways.grpc.upstream.describe import describe_method
from kitmsg_gateways.upstream.offers import renamed, shapes_of
from kitmsg_gateways.upstream.typed import Typed

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

    from kitmsg.service import Service
    from kitmsg.service.declare import Declaration
    from kitmsg_gateways.grpc.convert import Converter
    from kitmsg_gateways.grpc.errors import Told
    from kitmsg_gateways.grpc.layout import Layout, Rpc

__all__ = ["offers_of_class", "offers_of_service"]

_log = logging.getLogger("kitmsg_gateways.grpc")


def offers_of_service(
    name: str, service: ServiceDescriptor, error_field: str = ""
) -> list[GrpcMethod]:
    """Return the methods of a gRPC service; one that cannot be is left out and logged.

    Args:
        name: Of the service on the bus.
        service: Its descriptor.
        error_field: Field of a reply that tells of a failure.
    """
    found = []
    for method in service.methods:
        try:
            found.append(_described(name, method, error_field))
        except (ValueError, FailedPrecondition) as exc:
            _log.warning("%s: %s; it is left out", method.full_name, exc)
    return found


def _described(name: str, method: MethodDescriptor, error_field: str) -> GrpcMethod:
    request, reply = describe_method(method)
    streams = method.client_streaming
    declaration = describe(
        name,
        snake(method.name),
        request={"type": "object", "properties": {}} if streams else request,
        response=reply,
        items=request if streams else None,
        gives_items=method.server_streaming,
    )
    shapes = shapes_of(name, [declaration])
    bound = bind(method, shapes, shapes.methods[0])
    if bound.problems:
        raise ValueError("; ".join(bound.problems))
    converters = bound.converters()
    encode = converters.of(bound.rpc.input).encoder(request_error)
    decode = converters.of(bound.rpc.output).decoder(reply_error)
    return GrpcMethod(
        declaration,
        f"/{method.containing_service.full_name}/{method.name}",
        None if streams else encode,
        _without_error(decode, error_field) if error_field else decode,
        encode if streams else None,
        lambda told: told.error,
    )


def _without_error(
    decode: Callable[[bytes], Any], field: str
) -> Callable[[bytes], Any]:
    """Return `decode`, but a reply whose `field` is not empty is a failure."""

    def read(data: bytes) -> Any:
        value = decode(data)
        text = value.get(field) if isinstance(value, dict) else None
        if isinstance(text, str) and text:
            raise Unknown(text)
        return value

    return read


def offers_of_class(name: str, service: type[Service]) -> list[GrpcMethod]:
    """Return the methods that a kitmsg gateway makes of a service, by its class.

    Args:
        name: Of the service here.
        service: Its class; the server's names come from it.

    Raises:
        FailedPrecondition: An endpoint has no form in protobuf.
    """
    declared = service.__declarations__
    layout = lay_out(shapes_of(service.name, service.__declarations__.values()))
    converters = Converters(layout)
    return [
        _typed(name, declared[rpc.endpoint], rpc, layout, converters)
        for rpc in layout.rpcs
    ]


def _typed(
    name: str,
    declaration: Declaration,
    rpc: Rpc,
    layout: Layout,
    converters: Converters,
) -> GrpcMethod:
    typed = Typed(declaration, rpc.codec)

    def writer(
        to_plain: Callable[[Any], Any], converter: Converter
    ) -> Callable[[Any], bytes]:
        to_message = converter.encoder(request_error)
        return lambda value: to_message(to_plain(value))

    request, item = converters.inputs(rpc)
    read, decode = converters.of(rpc.output).decoder(reply_error), typed.response()
    return GrpcMethod(
        renamed(declaration, name),
        f"/{layout.full_name}/{rpc.name}",
        None if request is None else writer(typed.request(), request),
        lambda data: decode(read(data)),
        None if item is None else writer(typed.item(), item),
        _errors(Typed(declaration, MSGPACK.name).errors(), rpc, layout, converters),
    )


def _errors(
    declared: dict[str, Callable[[Any], Exception]],
    rpc: Rpc,
    layout: Layout,
    converters: Converters,
) -> Callable[[Told], Exception]:
    """Return the function that rebuilds the errors that an endpoint declares."""
    known = {reason(name): name for name in declared}

    def rebuild(told: Told) -> Exception:
        name = known.get(told.reason, "")
        if not name or told.domain != layout.service:
            return told.error
        message = rpc.errors.get(name, "")
        for detail in told.details:
            if detail.type_url.endswith(f"/{layout.package}.{message}"):
                converter = converters.of(message)
                try:
                    fields = converter.decode(converter.type.FromString(detail.value))
                except (Misfit, ValueError):
                    break
                return declared[name](fields)
        return told.error

    return rebuild
