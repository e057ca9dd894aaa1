"""One line for each request, when the operator wants it.

The facts are fields of the record, so `kitmsg.worker.logs` writes them for people or for
machines.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

if TYPE_CHECKING:
    from kitmsg_gateways.http.visit import Visit

__all__ = ["write"]

_log: Final = logging.getLogger("kitmsg_gateways.http.access")


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
    extra: dict[str, Any] = {
        "client": visit.address,
        "route": visit.route,
        "ms": round(seconds * 1000, 1),
        "bytes": _length(answer),
        "request_id": visit.id,
    }
    if visit.principal is not None:
        extra["principal"] = ascii(visit.principal.name)[1:-1]
    # A path may hold anything but a line break; what is not plain is escaped.
    path = visit.path.encode("ascii", "backslashreplace").decode()
    _log.info("%s %s %d", visit.request.method, path, status, extra=extra)


def _length(answer: web.StreamResponse | None) -> int:
    """Return the bytes of a body: of a whole one, or as many as a stream has written."""
    if isinstance(answer, web.Response):
        return len(answer.body) if isinstance(answer.body, bytes) else 0
    return 0 if answer is None else answer.body_length
