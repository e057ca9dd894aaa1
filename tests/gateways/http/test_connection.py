"""kitmsg_gateways.http.connection: answers in one write are what aiohttp would have written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from kitmsg import Service, endpoint
from kitmsg_gateways.http.aiohttp_parts import Brief
from kitmsg_gateways.http.connection import encode

if TYPE_CHECKING:
    from kitmsg import Kit


class Echo(Service):
    """Tells how long a text is."""

    @endpoint
    async def size(self, text: str) -> int:
        """Return the length of `text`."""
        return len(text)


@pytest.fixture
async def echo(hub: Kit) -> Echo:
    """An echo on the bus."""
    echo = Echo()
    await hub.serve(echo)
    return echo


def test_joins_status_headers_and_body() -> None:
    """Every header is there once, with length and date, and the body as it is."""
    response = web.Response(
        body=b"\r\n3", status=201, headers={"X-Request-Id": "é", "Content-Type": "a/b"}
    )
    head, _, body = encode(response).partition(b"\r\n\r\n")
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
        encode(response)


def test_refuses_what_is_no_bytes() -> None:
    """A body that has to be streamed is not for one write."""
    with pytest.raises(TypeError, match="must be bytes"):
        encode(web.Response())


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


def test_a_brief_answer_is_written_as_a_full_one() -> None:
    """Whether somebody looked at its headers makes no difference to what is sent."""
    brief = Brief(b'{"a":1}', "application/json", "id-1")
    was_brief, short = "_headers" not in vars(brief), encode(brief)
    assert brief.headers["X-Request-Id"] == "id-1"
    assert (was_brief, "_headers" in vars(brief)) == (True, True)
    full = encode(brief)
    assert sorted(short.split(b"\r\n")) == sorted(full.split(b"\r\n"))


def test_a_brief_answer_takes_other_headers() -> None:
    """What is added or changed is sent."""
    brief = Brief(b"1", "application/json", "id-1")
    brief.headers["Vary"] = "Origin"
    brief.body = b"22"
    assert b"\r\nVary: Origin\r\n" in encode(brief)
    assert encode(brief).endswith(b"\r\n\r\n22")


async def test_a_brief_answer_over_an_older_http(
    hub: Any, echo: Any, start: Any
) -> None:
    """What is not written in one go is written by aiohttp, as any other answer."""
    call = await start(hub)
    reply = await call.raw(
        b"POST /echo/size HTTP/1.0\r\nHost: x\r\nContent-Type: application/json\r\n"
        b'Content-Length: 14\r\n\r\n{"text":"abc"}'
    )
    head, _, body = reply.partition(b"\r\n\r\n")
    assert b" 200 OK" in head
    assert b"Server: kitmsg" in head
    assert body == b"3"
