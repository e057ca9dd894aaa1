"""One endpoint of an HTTP API: its requests and replies."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from kitmsg.codec import JSON
from kitmsg.transport.replies import Declared
from kitmsg_gateways.http.upstream.reply import ACCEPT, NDJSON, error_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from kitmsg.service.declare import Declaration
    from kitmsg.transport.replies import ErrorTypes
    from kitmsg_gateways.http.upstream.operation import HttpRequest, Operation
    from kitmsg_gateways.http.upstream.reply import HttpReply, Read

__all__ = ["HttpMethod"]

_encode: Final = JSON.encoder(Any)


@dataclass(slots=True)
class HttpMethod:
    """One endpoint of an HTTP API.

    Attributes:
        declaration: Name, schemas and options.
        operation: Where each field of a request goes.
        to_plain: Makes an object of JSON's kinds of values of a request.
        read: Decodes a result, or one item of it.
        encode_item: Makes JSON of an item that the caller streams.
        errors: Typed errors that it may tell of.
    """

    declaration: Declaration
    operation: Operation
    to_plain: Callable[[Any], Any]
    read: Read
    encode_item: Callable[[Any], bytes] = _encode
    errors: ErrorTypes = field(init=False)

    def __post_init__(self) -> None:
        raises = self.declaration.options.raises
        self.errors = {cls.__name__: Declared.of(cls) for cls in raises}

    def described(self) -> tuple[str, Mapping[str, str]]:
        """Return name and attributes of the spans of its calls."""
        method, template = self.operation.method, self.operation.path
        named = {"http.request.method": method, "url.template": template}
        return f"{method} {template}", named

    def encode(self, request: Any) -> HttpRequest:
        """Return the HTTP request.

        Raises:
            InvalidArgument: A field is missing, is not known, or has no form in its place.
        """
        made = self.operation.build(self.to_plain(request))
        if self.declaration.signature.stream:
            made.headers["Accept"] = ACCEPT
        if self.declaration.signature.takes_items:
            made.headers["Content-Type"] = NDJSON
        return made

    async def lines(self, items: AsyncIterator[Any]) -> AsyncIterator[bytes]:
        """Yield the body that streams `items`: a line of JSON for each."""
        async for item in items:
            yield self.encode_item(item) + b"\n"

    def error(self, reply: HttpReply) -> Exception | None:
        """Return the error that a response tells of; None for a success."""
        return error_of(reply, name=self.declaration.subject, declared=self.errors)

    def decode(self, reply: HttpReply) -> Any:
        """Return the result in a response.

        Raises:
            DataLoss: It cannot be read or does not fit.
        """
        return self.read(reply)
