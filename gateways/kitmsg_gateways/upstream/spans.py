"""Client spans of the calls of an upstream: around all attempts, to a stream's end.

The protocol's own attributes come from its method (`Described`); the server's address and
an HTTP status are added as they are known.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from kitmsg.tracing import tracer
from kitmsg.tracing.conventions import HTTP_STATUS, rpc_attributes
from kitmsg.transport.traced import finish
from kitmsg_gateways.upstream.items import Items

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kitmsg.context import Context
    from kitmsg.endpoints import Endpoint
    from kitmsg.tracing.seam import Span

__all__ = ["Described", "described", "note_address", "note_reply", "spanned"]


@runtime_checkable
class Described(Protocol):
    """A method that names its spans."""

    def described(self) -> tuple[str, Mapping[str, str]]:
        """Return name and attributes of its spans, by OpenTelemetry's conventions."""
        ...


def described(method: object, dotted: str) -> tuple[str, Mapping[str, str]]:
    """Return name and attributes of the spans of a method's calls."""
    if isinstance(method, Described):
        return method.described()
    return dotted, rpc_attributes("kitmsg", dotted)


def spanned(
    call: Endpoint[Any, Any], method: object, dotted: str
) -> Endpoint[Any, Any]:
    """Return the endpoint of a method with a span around each call, if there are spans."""
    found = tracer()
    if found is None:
        return call
    operation = found.client(*described(method, dotted))

    async def traced(ctx: Context, request: Any) -> Any:
        span = operation.begin()
        token = span.enter()
        try:
            result = await call(ctx, request)
        except BaseException as exc:
            finish(span, exc)
            raise
        finally:
            span.leave(token)
        if isinstance(result, AsyncIterator):
            span.happened("stream.begin", {})
            return Items(result, partial(_end, span))
        span.finish()
        return result

    return traced


def _end(span: Span, error: BaseException | None, count: int) -> None:
    span.happened("stream.end", {"kitmsg.stream.items": count})
    if error is None:
        span.finish()
    else:
        finish(span, error)


def note_address(address: str) -> None:
    """Tell the call's span which server was picked."""
    from opentelemetry.trace import get_current_span

    span = get_current_span()
    if not span.is_recording():
        return
    host, _, port = address.rpartition("://")[2].partition("/")[0].rpartition(":")
    span.set_attribute("server.address", (host or port).strip("[]"))
    if host and port.isdigit():
        span.set_attribute("server.port", int(port))


def note_reply(reply: object) -> None:
    """Tell the call's span the status of an HTTP reply."""
    from opentelemetry.trace import get_current_span

    status = getattr(reply, "status", None)
    if isinstance(status, int):
        get_current_span().set_attribute(HTTP_STATUS, status)
