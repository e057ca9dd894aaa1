"""A whole answer in one write: status line, headers and body joined, sent once.

Hot path.  Most answers are a few bytes of JSON on a connection that stays open; building
them as aiohttp does, header map first, takes a fifth of the gateway's time.  What is not so
simple (errors that close, HEAD, HTTP/1.0, files) aiohttp writes.  A `Brief` has no header
map until somebody looks.
"""

from __future__ import annotations

import functools
from http import HTTPStatus
from typing import Any, Final, TypeGuard

from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import HttpVersion11
from multidict import CIMultiDict

__all__ = ["Brief", "is_simple", "whole"]

_OK: Final = 200

_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n"
    for status in HTTPStatus
}


class Brief(web.Response):
    """A 200 with a body and the usual headers, as nearly every answer is.

    Args:
        body: The body.
        media_type: What it is; no line breaks.
        id_: The request id; no line breaks.
    """

    # What `web.Response` sets for each one; it does not change here.
    _status = _OK
    _reason = HTTPStatus.OK.phrase
    _zlib_executor_size = 1 << 10
    _zlib_executor = None

    def __init__(self, body: bytes, media_type: str, id_: str) -> None:
        self._body = body
        self._media_type = media_type
        self._id = id_

    @functools.cached_property
    def _headers(self) -> CIMultiDict[str]:  # type: ignore[override]
        return CIMultiDict(
            {
                "X-Request-Id": self._id,
                "Cache-Control": "no-store",
                "X-Content-Type-Options": "nosniff",
                "Content-Type": self._media_type,
                "Server": "kitmsg",
            }
        )

    @functools.cached_property
    def _state(self) -> dict[Any, Any]:  # type: ignore[override]
        return {}

    @property
    def is_brief(self) -> bool:
        """Whether nobody has looked at the headers, so that they are as they were."""
        return "_headers" not in self.__dict__

    def written(self) -> bytes:
        """Return all of it as bytes, while `is_brief`."""
        body: Any = self._body
        head = (
            f"HTTP/1.1 200 OK\r\nX-Request-Id: {self._id}\r\nCache-Control: no-store\r\n"
            "X-Content-Type-Options: nosniff\r\n"
            f"Content-Type: {self._media_type}\r\nServer: kitmsg\r\n"
            f"Content-Length: {len(body)}\r\nDate: {rfc822_formatted_time()}\r\n\r\n"
        )
        return head.encode("ascii") + bytes(body)


_WHOLE: Final = (Brief, web.Response)


def is_simple(
    response: web.StreamResponse, request: web.BaseRequest
) -> TypeGuard[web.Response]:
    """Tell whether `whole` may write `response` to `request`; nobody has begun to."""
    return (
        type(response) in _WHOLE
        and type(response.body) is bytes  # type: ignore[attr-defined]
        and response.keep_alive is None
        and request.keep_alive
        and request.version == HttpVersion11
        and request.method != "HEAD"
        and response.status in _LINES
        # aiohttp would add one
        and (type(response) is Brief or "Content-Type" in response.headers)
    )


def whole(response: web.Response) -> bytes:
    """Return all of `response` as bytes.

    Raises:
        TypeError: The body is no bytes.
        ValueError: A header holds a line break, which would forge another.
    """
    if type(response) is Brief and response.is_brief:
        return response.written()
    body = response.body
    if not isinstance(body, bytes):
        raise TypeError(f"the body must be bytes, not {type(body).__name__}")
    lines = [f"{name}: {value}\r\n" for name, value in response.headers.items()]
    text = "".join(lines)
    if text.count("\r") != len(lines) or text.count("\n") != len(lines):
        raise ValueError("a header of the answer holds a line break")
    head = (
        f"{_LINES[response.status]}{text}Content-Length: {len(body)}\r\n"
        f"Date: {rfc822_formatted_time()}\r\n\r\n"
    )
    return head.encode("utf-8") + body
