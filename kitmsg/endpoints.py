"""The one abstraction: an endpoint is a remote procedure as an async function.

Servers implement endpoints and clients call them, with the same type, so a middleware
never needs to know on which side it runs.  No bus, no bytes here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import reduce
from typing import Any, Final, Protocol, TypeAlias, TypeVar, overload

from kitmsg.context import Context
from kitmsg.schema import signature

__all__ = [
    "Endpoint",
    "Middleware",
    "Req",
    "Resp",
    "chain",
    "make_endpoint",
    "parts_of",
]

_PARTS: Final = "__kit_parts__"

Req = TypeVar("Req")
Resp = TypeVar("Resp")

Endpoint: TypeAlias = Callable[[Context, Req], Awaitable[Resp]]
"""One remote procedure."""


class Middleware(Protocol):
    """Wraps any endpoint and keeps its type."""

    # Generic in the call, not in the class: `timeout(2.0)` fits every endpoint, and the
    # types are found when it meets one.
    def __call__(self, endpoint: Endpoint[Req, Resp], /) -> Endpoint[Req, Resp]:
        """Return `endpoint` with this behaviour around it."""
        ...


def chain(*middlewares: Middleware) -> Middleware:
    """Compose middlewares; the first one given is the outermost.

    ``chain(log, retry)(endpoint)`` is ``log(retry(endpoint))``: one log line however
    many tries.  Without middlewares the endpoint comes back as it is.
    """

    def compose(endpoint: Endpoint[Req, Resp], /) -> Endpoint[Req, Resp]:
        return reduce(lambda inner, wrap: wrap(inner), reversed(middlewares), endpoint)

    setattr(compose, _PARTS, middlewares)
    return compose


def parts_of(middleware: Middleware) -> list[Middleware]:
    """Return the middlewares that `chain` composed; the one that is given if it did not."""
    parts = getattr(middleware, _PARTS, None)
    if parts is None:
        return [middleware]
    return [part for each in parts for part in parts_of(each)]


@overload
def make_endpoint(method: Callable[..., Awaitable[Resp]]) -> Endpoint[Any, Resp]: ...
@overload
def make_endpoint(method: Callable[..., Resp]) -> Endpoint[Any, Resp]: ...
def make_endpoint(method: Callable[..., Any]) -> Endpoint[Any, Any]:
    """Return a bound method (or a function) as an endpoint.

    The request is what `kitmsg.schema.signature` makes of the parameters: the one struct,
    or a generated one with a field for each.  A plain ``def`` runs in a thread.

    Raises:
        TypeError: A parameter or the result has no annotation or no wire form.
    """
    return signature(method).adapter(method)
