"""The span of an HTTP request: name, attributes, status; and those of the calls in it.

OpenTelemetry's "Semantic conventions for HTTP spans", HTTP server, and those for JSON-RPC.
Queries and headers are not in it: they may hold secrets.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from kitmsg.errors import Code, KitError
from kitmsg.tracing import tracer
from kitmsg.tracing.conventions import rpc_attributes
from kitmsg_gateways.edge.spans import finish
from kitmsg_gateways.http.errors import Problem
from kitmsg_gateways.http.visit import UNMATCHED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kitmsg.tracing.seam import Operation, Span
    from kitmsg_gateways.http.visit import Visit

__all__ = ["CallSpans", "finish_span"]

_MOST: Final = 4096

_METHODS: Final = frozenset(
    {
        *("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE"),
        *("PATCH", "QUERY"),
    }
)


def finish_span(visit: Visit, status: int | None) -> None:
    """End the span of a request.

    Args:
        visit: The request.
        status: Of its answer; None if its client went away before.
    """
    span = visit.span
    if span is None:
        return
    if span.is_live:
        _describe(visit)
    if status is None:
        span.finish(Code.CANCELLED)
    else:
        span.answered(status)


class CallSpans:
    """Spans of JSON-RPC calls: each is below its request's, however many that has."""

    def __init__(self) -> None:
        self._tracer = tracer()
        self._operations: dict[str, Operation] = {}

    @contextlib.contextmanager
    def around(self, dotted: str, id_: bytes | None) -> Iterator[None]:
        """Have a span around a call; nothing where nothing is traced.

        Args:
            dotted: Name of the endpoint.
            id_: The call's, as JSON; None of a notification.
        """
        if self._tracer is None:
            yield
            return
        found = self._operations.get(dotted)
        if found is None:
            if len(self._operations) >= _MOST:  # names that came and went
                self._operations.clear()
            attributes = {
                **rpc_attributes("jsonrpc", dotted),
                "jsonrpc.protocol.version": "2.0",
            }
            found = self._tracer.server(dotted, attributes)
            self._operations[dotted] = found
        span = found.begin()
        if id_ is not None:
            text = id_.decode(errors="replace").strip('"')
            span.note("jsonrpc.request.id", text[:_MOST])
        token = span.enter()
        try:
            yield
        except BaseException as exc:
            _failed(span, exc)
            raise
        finally:
            span.leave(token)
        span.finish()


def _failed(span: Span, error: BaseException) -> None:
    cause = error.__cause__
    if isinstance(error, Problem) and not isinstance(cause, KitError):
        span.finish(error.code, error.detail)
    else:  # a declared error is known by its reply
        finish(span, cause if isinstance(error, Problem) else error)


def _describe(visit: Visit) -> None:
    request, span = visit.request, visit.span
    if span is None:
        return
    method = request.method
    if method not in _METHODS:
        span.note("http.request.method_original", method)
        method = "_OTHER"
    has_route = visit.route != UNMATCHED
    named = "HTTP" if method == "_OTHER" else method
    span.rename(f"{named} {visit.route}" if has_route else named)
    span.note("http.request.method", method)
    if has_route:
        span.note("http.route", visit.route)
    span.note("url.path", visit.path)
    span.note("url.scheme", visit.scheme)
    span.note(
        "network.protocol.version", f"{request.version.major}.{request.version.minor}"
    )
    for name, value in (
        ("server.address", visit.host),
        ("client.address", visit.address),
        ("user_agent.original", request.headers.get("User-Agent", "")),
    ):
        if value:
            span.note(name, value)
