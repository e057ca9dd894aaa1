"""One gRPC method that is served: where its calls go, and how its messages are read.

What makes methods (`generated.py` from the schemas, `user.py` from a .proto of the user's
own) fills this in; `call.py` needs to know no more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from kitmsg.codec import Codec
    from kitmsg.discovery.catalog import CatalogEndpoint
    from kitmsg.errors import KitError

__all__ = ["Handler", "Method", "Recode", "Typed"]

Handler: TypeAlias = Any  # grpc.RpcMethodHandler; grpcio has no types

Recode: TypeAlias = Callable[[bytes], bytes]
"""Takes a message in one encoding; returns it in the other."""

Typed: TypeAlias = Callable[[str, Any], "Message | None"]
"""Takes a declared error's name and fields; returns it as a message, None for none."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Method:
    """One method.

    Attributes:
        path: ``/package.Service/Method``.
        endpoint: What it stands for on the bus.
        codec: How the bus carries its requests, items and results.
        read: From a request message to a payload; raises `InvalidArgument` for one that
            is no such message.
        write: From a payload of the service, a result or an item, to a message; raises
            `DataLoss` for one that does not fit.
        item: From a message of the client's stream to an item; raises as `read`.
        is_framed: Whether the first message of the client's stream is the request, for
            `read`; otherwise all are items.
        typed: Makes messages of declared errors.
        confess: Makes a reply that tells of a declared error, where the .proto has a field
            for it; None where errors are statuses.
    """

    path: str
    endpoint: CatalogEndpoint
    codec: Codec
    read: Recode
    write: Recode
    item: Recode | None = None
    is_framed: bool = False
    typed: Typed | None = None
    confess: Callable[[KitError], bytes] | None = None

    @property
    def takes_stream(self) -> bool:
        """Whether the client sends a stream."""
        return self.item is not None

    @property
    def gives_stream(self) -> bool:
        """Whether the service answers with a stream."""
        return self.endpoint.stream in ("out", "both")
