"""All that a call of one method needs of messages, for servers and for clients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateways.grpc.convert import Converters, Misfit, reply_error, request_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from google.protobuf.message import Message as Proto

    from gateways.grpc.convert import Converter
    from gateways.grpc.layout import Layout, Rpc

__all__ = ["Coders", "coders_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Coders:
    """How the messages of one method are read and written.

    Readers take a message's bytes and return a plain value, writers the reverse.  What a
    caller sent raises `InvalidArgument` where it cannot be taken, what a service sent
    `DataLoss`.

    Attributes:
        rpc: The method.
        path: ``/package.Service/Method``.
        read_request: For servers.  Of the first message of a stream where the endpoint
            takes parameters beside it; where it takes none, `has_request` is False.
        read_item: For servers: a message of the client's stream.
        write_result: For servers: the result, or an item of the stream that it is.
        write_request: For clients.
        write_item: For clients.
        read_result: For clients.
        has_request: Whether a stream of the client begins with a request.  Without a
            stream it is True.
        errors: Converters of declared errors, by the errors' names.
    """

    rpc: Rpc
    path: str
    read_request: Callable[[bytes], Any]
    read_item: Callable[[bytes], Any]
    write_result: Callable[[Any], bytes]
    write_request: Callable[[Any], bytes]
    write_item: Callable[[Any], bytes]
    read_result: Callable[[bytes], Any]
    has_request: bool
    errors: Mapping[str, Converter]

    def error(self, name: str, fields: Any) -> Proto | None:
        """Return a declared error as a message; None if it cannot be one.

        Args:
            name: The error's name.
            fields: Its fields by name, as the service sent them.
        """
        converter = self.errors.get(name)
        if converter is None:
            return None
        try:
            return converter.message(fields)
        except Misfit:
            return None


def coders_of(
    layout: Layout, converters: Converters | None = None
) -> dict[str, Coders]:
    """Return what the methods of a service need, by their endpoints' names.

    Args:
        layout: The service.
        converters: Those of its messages; None makes them.
    """
    made = converters or Converters(layout)
    return {rpc.endpoint: _coders(rpc, layout, made) for rpc in layout.rpcs}


def _coders(rpc: Rpc, layout: Layout, converters: Converters) -> Coders:
    frame = layout.messages[rpc.input]
    is_frame = frame.form == "frame"
    name = frame.slots[0].type if is_frame else rpc.input
    item = frame.slots[1].type if is_frame else rpc.input
    request, items = converters.of(name), converters.of(item)
    if is_frame:
        whole = converters.of(rpc.input)
        request, items = whole.part("request", request), whole.part("item", items)
    output = converters.of(rpc.output)
    return Coders(
        rpc=rpc,
        path=f"/{layout.full_name}/{rpc.name}",
        read_request=request.decoder(request_error),
        read_item=items.decoder(request_error),
        write_result=output.encoder(reply_error),
        write_request=request.encoder(request_error),
        write_item=items.encoder(request_error),
        read_result=output.decoder(reply_error),
        has_request=is_frame or not rpc.takes_stream,
        errors={error: converters.of(struct) for error, struct in rpc.errors.items()},
    )
