"""gateways.http.whole: answers in one write are what aiohttp would have written."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from gateways.http.whole import whole


def test_joins_status_headers_and_body() -> None:
    """Every header is there once, with length and date, and the body as it is."""
    response = web.Response(
        body=b"\r\n3", status=201, headers={"X-Request-Id": "é", "Content-Type": "a/b"}
    )
    head, _, body = whole(response).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 201 Created"
    assert lines[1:-1] == [
        "X-Request-Id: é",
        "Content-Type: a/b",
        "Content-Length: 3",
    ]
    assert lines[-1].startswith("Date: ")
    assert body == b"\r\n3"


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "a\rb"])
def test_refuses_a_line_break_in_a_header(value: str) -> None:
    """One header cannot forge another."""
    response = web.Response(body=b"")
    response.headers["X-Request-Id"] = value
    with pytest.raises(ValueError, match="line break"):
        whole(response)


def test_refuses_what_is_no_bytes() -> None:
    """A body that has to be streamed is not for one write."""
    with pytest.raises(TypeError, match="must be bytes"):
        whole(web.Response())


@pytest.mark.parametrize("way", ["HTTP/1.0", "HEAD", "close"])
async def test_what_is_not_simple_is_as_before(hub: Any, start: Any, way: str) -> None:
    """HEAD has no body, and connections that end say so."""
    call = await start(hub)
    method = b"HEAD" if way == "HEAD" else b"GET"
    version = b"HTTP/1.0" if way == "HTTP/1.0" else b"HTTP/1.1"
    reply = await call.raw(
        method + b" /healthz " + version + b"\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    head, _, body = reply.partition(b"\r\n\r\n")
    assert b" 200 OK" in head
    assert (body == b"") is (way == "HEAD")
