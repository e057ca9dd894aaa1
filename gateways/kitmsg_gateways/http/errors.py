"""Errors as problem details: ``application/problem+json``.  Source: RFC 9457.

Beside the standard members stand `code` (kitmsg's name of the kind of error),
`request_id`, and, where they are known, `field`, `retry_after` (seconds), `error` and
`details` (a service's own typed error and its fields).
"""

from __future__ import annotations

import dataclasses
import logging
import math
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp import web

from kitmsg.errors import (
    BusDenied,
    Code,
    Internal,
    InvalidArgument,
    KitError,
    outward,
)

__all__ = ["CONTENT_TYPE", "GOKIT_TYPE", "Problem", "refusal"]

_log = logging.getLogger("kitmsg_gateways.http")

CONTENT_TYPE: Final = "application/problem+json"
GOKIT_TYPE: Final = "application/json; charset=utf-8"
_TYPE: Final = "urn:kitmsg:error:"
_CLIENT_CLOSED: Final = 499  # nginx's number; not registered, so it has no phrase
_PHRASES: Final = {_CLIENT_CLOSED: "Client Closed Request"}


@dataclass(eq=False)
class Problem(Exception):
    """A refusal or failure, as the HTTP caller sees it.

    Attributes:
        status: HTTP status.
        code: Kind of error.
        detail: One sentence for people: what was wrong and what to do.
        field: The parameter or header that is to blame; "" for none.
        retry_after: Seconds until trying again may help; None if unknown.
        error: Name of the service's own error type; "" for none.
        details: The fields of that error, or what else a service says; None for nothing.
        headers: More response headers, such as ``Allow``.
        is_gokit: Whether it is told as Go kit's examples do: ``{"error": detail}``.
    """

    status: int
    code: Code
    detail: str
    field: str = ""
    retry_after: float | None = None
    error: str = ""
    details: Any = None
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    is_gokit: bool = False

    def __post_init__(self) -> None:
        super().__init__(self.detail)

    @classmethod
    def of(cls, error: BaseException | None, id_: str = "") -> Problem:
        """Return the problem that stands for `error`, or is it.

        What is not for the caller is logged, under the request id `id_`.
        """
        if isinstance(error, Problem):
            return error
        if not isinstance(error, KitError):
            _log.error(
                "request %s failed", id_, exc_info=error, extra={"request_id": id_}
            )
            error = Internal(
                f"internal error; the gateway's log has it under request id {id_}"
            )
        if isinstance(error, BusDenied):
            _log.error(
                "%s (request id %s)",
                *(error, id_ or "unknown"),
                extra={"request_id": id_ or "unknown"},
            )
            error = outward(error)
        return cls(
            error.code.http,
            error.code,
            str(error),
            field=error.field if isinstance(error, InvalidArgument) else "",
            retry_after=error.retry_after,
        )

    def body(self, *, instance: str, request_id: str) -> bytes:
        """Return the JSON document.

        Args:
            instance: Path of the request; what is no UTF-8 in it is replaced.
            request_id: As in the logs of the gateway and the service.
        """
        if self.is_gokit:
            return msgspec.json.encode({"error": self.detail}) + b"\n"
        document: dict[str, Any] = {
            "type": _TYPE + (self.error or self.code.value),
            "title": title(self.status),
            "status": self.status,
            "detail": self.detail,
            "instance": instance.encode("utf-8", "replace").decode(),
            "code": self.code.value,
            "request_id": request_id,
        }
        document |= self.facts()
        return msgspec.json.encode(document)

    def facts(self) -> dict[str, Any]:
        """Return what is known beside code and text; members as in `body`."""
        known = {
            "field": self.field or None,
            "retry_after": self.retry_after,
            "error": self.error or None,
            "details": self.details,
        }
        return {name: value for name, value in known.items() if value is not None}

    def response(self, path: str, id_: str) -> web.Response:
        """Return the response to the request with a path and an id."""
        headers = self.all_headers()
        headers |= {"X-Request-Id": id_, "Cache-Control": "no-store"}
        headers |= {"X-Content-Type-Options": "nosniff"}
        body = self.body(instance=path, request_id=id_)
        return web.Response(status=self.status, body=body, headers=headers)

    def all_headers(self) -> dict[str, str]:
        """Return the response headers that belong to it."""
        content_type = GOKIT_TYPE if self.is_gokit else CONTENT_TYPE
        found = {"Content-Type": content_type, **self.headers}
        if self.retry_after is not None:
            # Whole seconds only (RFC 9110, section 10.2.3); zero would mean "hammer on".
            found["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        return found


def refusal(
    status: int, detail: str, *, field: str = "", headers: dict[str, str] | None = None
) -> Problem:
    """Return the problem of a request that the gateway refuses with an HTTP status."""
    code = Code.from_http(status)
    return Problem(status, code, detail, field=field, headers=headers or {})


def title(status: int) -> str:
    """Return the standard phrase of a status."""
    return _PHRASES.get(status) or HTTPStatus(status).phrase
