"""One method of a gRPC server: its requests and replies."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from kitmsg.errors import error_for
from kitmsg.tracing.conventions import rpc_attributes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from kitmsg.service.declare import Declaration
    from kitmsg_gateways.grpc.errors import Told

__all__ = ["GrpcMethod", "GrpcReply", "GrpcRequest", "Messages"]

_log = logging.getLogger("kitmsg_gateways.grpc")

# Any INTERNAL, and UNKNOWN where a Python server tells of an exception.
_LEAKS: Final = re.compile(r"13 |2 (Unexpected <class|Exception (calling|iterating))")


@dataclass(slots=True)
class GrpcRequest:
    """A call that is about to be sent; `Hooks.before` may change it.

    Attributes:
        path: ``/package.Service/Method``.
        message: The request message; the first one of a stream, or b"" for none.
        metadata: By key in lower case; bytes under keys that end with ``-bin``.
    """

    path: str
    message: bytes
    metadata: dict[str, str | bytes] = field(default_factory=dict)


@dataclass(slots=True)
class GrpcReply:
    """A reply, or one message of a stream.

    Attributes:
        path: Of the request.
        message: The reply message; b"" for a failure.
        code: Status number; 0 for success.
        details: The status message.
        trailers: Trailing metadata: pairs of key and value.
    """

    path: str
    message: bytes = b""
    code: int = 0
    details: str = ""
    trailers: tuple[tuple[str, str | bytes], ...] = ()

    @property
    def told(self) -> Told:
        """The status of a failure, with its details."""
        from kitmsg_gateways.grpc.errors import read_status  # it needs the extra

        return read_status(self.code, self.details, self.trailers)


@dataclass(frozen=True, slots=True)
class GrpcMethod:
    """One method of a gRPC server.

    Attributes:
        declaration: Name, schemas and options.
        path: ``/package.Service/Method``.
        write: From a request to its message; None where all that is sent are items.
        read: From a message to a result, or to an item of one.
        write_item: From an item to its message; None where the caller sends no stream.
        rebuild: From the status of a failure to the error to raise.
    """

    declaration: Declaration
    path: str
    write: Callable[[Any], bytes] | None
    read: Callable[[bytes], Any]
    write_item: Callable[[Any], bytes] | None
    rebuild: Callable[[Told], Exception]

    def described(self) -> tuple[str, Mapping[str, str]]:
        """Return name and attributes of the spans of its calls."""
        name = self.path.removeprefix("/")
        return name, rpc_attributes("grpc", name)

    def encode(self, request: Any) -> GrpcRequest:
        """Return the call.

        Raises:
            InvalidArgument: The request has no form in protobuf.
        """
        return GrpcRequest(
            self.path, b"" if self.write is None else self.write(request)
        )

    def error(self, reply: GrpcReply) -> Exception | None:
        """Return the error that a reply tells of; None for a success."""
        if not reply.code:
            return None
        told = reply.told
        if not told.details and _LEAKS.match(f"{reply.code} {reply.details}"):
            # What went wrong inside the server is for the log, not for every caller.
            _log.warning("%s: the server failed: %r", self.path, reply.details[:1000])
            failed = f"{self.declaration.subject}: the server failed"
            return error_for(told.error.code, failed)
        return self.rebuild(told)

    def decode(self, reply: GrpcReply) -> Any:
        """Return the result in a reply, or an item of it.

        Raises:
            DataLoss: It cannot be read.
        """
        return self.read(reply.message)


class Messages:
    """The messages of a caller's stream: its request, if any, and its items.

    Attributes:
        error: The exception that ended the caller's stream; None for a good end.
    """

    def __init__(
        self, method: GrpcMethod, first: bytes, items: AsyncIterator[Any] | None
    ) -> None:
        self.error: Exception | None = None
        self._method = method
        self._first = first
        self._items = items

    async def __aiter__(self) -> AsyncIterator[bytes]:
        write = self._method.write_item
        try:
            if self._method.write is not None:
                yield self._first
            if self._items is not None and write is not None:
                async for each in self._items:
                    yield write(each)
        except Exception as exc:
            self.error = exc
            raise
