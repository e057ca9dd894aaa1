"""A whole answer in one write: status line, headers and body joined, sent once.

Hot path.  Most answers are a few bytes of JSON on a connection that stays open; building
them as aiohttp does, header map first, takes a fifth of the gateway's time.  What is not so
simple (errors that close, HEAD, HTTP/1.0, files) aiohttp writes.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, TypeGuard

from aiohttp import web
from aiohttp.http import HttpVersion11

from kitmsg_gateways.http.aiohttp_parts import Brief, http_date

__all__ = ["encode", "is_simple"]

_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n"
    for status in HTTPStatus
}


def is_simple(
    response: web.StreamResponse, request: web.BaseRequest
) -> TypeGuard[web.Response]:
    """Tell whether `encode` may write `response` to `request`; nobody has begun to."""
    return (
        request.keep_alive
        and request.version == HttpVersion11
        and request.method != "HEAD"
        and response.keep_alive is None
        and (
            type(response) is Brief
            or (
                type(response) is web.Response
                and type(response.body) is bytes
                and response.status in _LINES
                and "Content-Type" in response.headers  # aiohttp would add one
            )
        )
    )


def encode(response: web.Response) -> bytes:
    """Return all of `response` as bytes.

    Raises:
        TypeError: The body is no bytes.
        ValueError: A header holds a line break, which would forge another.
    """
    if type(response) is Brief and "_headers" not in response.__dict__:
        return response.encode()  # nobody has looked at the headers
    body = response.body
    if not isinstance(body, bytes):
        raise TypeError(f"the body must be bytes, not {type(body).__name__}")
    lines = [f"{name}: {value}\r\n" for name, value in response.headers.items()]
    text = "".join(lines)
    if text.count("\r") != len(lines) or text.count("\n") != len(lines):
        raise ValueError("a header of the answer holds a line break")
    head = (
        f"{_LINES[response.status]}{text}Content-Length: {len(body)}\r\n"
        f"Date: {http_date()}\r\n\r\n"
    )
    return head.encode("utf-8") + body
