"""The line of a request in the access log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from kitmsg_gateways.edge.accesslog import AccessLog

if TYPE_CHECKING:
    from kitmsg_gateways.http.visit import Visit

__all__ = ["write"]

_log: Final = AccessLog("http")


def write(
    visit: Visit, answer: web.StreamResponse | None, status: int, seconds: float
) -> None:
    """Write the line of a request.

    Args:
        visit: It.
        answer: Its answer; None when the client went away before.
        status: The answer's status, or 499.
        seconds: How long it took.
    """
    _log.write(
        f"{visit.request.method} {visit.path} {status}",
        client=visit.address,
        seconds=seconds,
        principal=visit.principal,
        route=visit.route,
        bytes=_length(answer),
        request_id=visit.id,
    )


def _length(answer: web.StreamResponse | None) -> int:
    """Return the bytes of a body: of a whole one, or as many as a stream has written."""
    if isinstance(answer, web.Response):
        return len(answer.body) if isinstance(answer.body, bytes) else 0
    return 0 if answer is None else answer.body_length
