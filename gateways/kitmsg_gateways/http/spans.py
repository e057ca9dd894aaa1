"""The span of an HTTP request: name, attributes, status.

OpenTelemetry's "Semantic conventions for HTTP spans", HTTP server.  Queries and headers are
not in it: they may hold secrets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kitmsg.errors import Code
from kitmsg_gateways.http.visit import UNMATCHED

if TYPE_CHECKING:
    from kitmsg_gateways.http.visit import Visit

__all__ = ["finish_span"]

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
