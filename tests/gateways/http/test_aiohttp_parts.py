"""kitmsg_gateways.http.aiohttp_parts: the fast paths keep what aiohttp's own promise."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import StreamReader, web
from aiohttp.http import StreamWriter

import kitmsg_gateways
from kitmsg import Service, endpoint
from kitmsg_gateways.http import aiohttp_parts

if TYPE_CHECKING:
    from kitmsg import Kit

BODY = b'{"text":"abc"}'


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


@pytest.fixture(params=[True, False], ids=["fast", "aiohttp"], autouse=True)
def way(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run on the fast paths, and as with an aiohttp that they were not tried with."""
    monkeypatch.setattr(aiohttp_parts, "_is_tried", request.param)


def post(path: str, body: bytes, *headers: str) -> bytes:
    """Return a request with a body."""
    length = f"Content-Length: {len(body)}"
    lines = [f"POST {path} HTTP/1.1", "Host: x", length, *headers, "", ""]
    return "\r\n".join(lines).encode() + body


async def test_pipelined_requests_are_answered_in_order(hub, echo, start):
    """Many requests in one go come back one after the other on their connection."""
    call = await start(hub)
    bodies = [b'{"text":"%b"}' % (b"a" * n) for n in range(1, 41)]
    requests = [post("/echo/size", body) for body in bodies]
    requests.append(post("/echo/size", b'{"text":""}', "Connection: close"))
    reply = await call.raw(b"".join(requests))
    answers = [
        part.rpartition(b"\r\n\r\n")[2] for part in reply.split(b"HTTP/1.1 ")[1:]
    ]
    assert answers == [b"%d" % n for n in [*range(1, 41), 0]]


async def test_a_body_that_nobody_reads_does_not_spoil_the_next_request(
    hub, echo, start
):
    """What a refused request still sends is dropped; the connection goes on."""
    call = await start(hub)
    refused = post("/nowhere", b"x" * 200_000)
    reply = await call.raw(refused + post("/echo/size", BODY, "Connection: close"))
    assert reply.startswith(b"HTTP/1.1 404 ")
    assert b"\r\n\r\n3" in reply


async def test_an_idle_connection_ends(memory_bus, start):
    """A connection without a request is closed after the keep-alive time."""
    call = await start(memory_bus, keepalive_timeout=0.05)
    async with asyncio.timeout(5):
        reply = await call.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 200 ")


async def test_a_broken_request_ends_the_connection(hub, echo, start):
    """It is refused, once; what follows is not read."""
    call = await start(hub)
    reply = await call.raw(b"no HTTP\r\n\r\n" + post("/echo/size", BODY))
    assert reply.split(b" ")[1] == b"400"
    assert reply.count(b"request_id") == 1


async def test_an_answer_is_the_same_by_both_ways(hub, echo, start):
    """Status line, headers and body of a result, whoever writes it."""
    call = await start(hub)
    asked = post("/echo/size", BODY, "X-Request-Id: id-1", "Connection: close")
    head, _, body = (await call.raw(asked)).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert (lines[0], body) == ("HTTP/1.1 200 OK", b"3")
    names = sorted(line.partition(":")[0] for line in lines[1:])
    assert names == [
        *("Cache-Control", "Connection", "Content-Length", "Content-Type", "Date"),
        *("Server", "X-Content-Type-Options", "X-Request-Id"),
    ]


async def test_an_answer_that_is_kept_alive_is_the_same_by_both_ways(hub, echo, start):
    """As are those of a connection that stays."""
    call = await start(hub, keepalive_timeout=0.05)
    reply = await call.raw(post("/echo/size", BODY))
    head, _, body = reply.partition(b"\r\n\r\n")
    assert (head.split(b"\r\n")[0], body) == (b"HTTP/1.1 200 OK", b"3")
    assert len(re.findall(rb"(?im)^(server|date|content-type):", head)) == 3


def test_the_aiohttp_that_is_installed_has_all_parts():
    """Or it is time to look at what has changed."""
    assert aiohttp_parts._missing() == []


def test_another_version_is_told_of_once_and_not_used(monkeypatch):
    """One sentence, with the version."""
    monkeypatch.setattr(aiohttp, "__version__", "9.9.9")
    with pytest.warns(RuntimeWarning, match=r"aiohttp 9\.9\.9 was not tried"):
        assert not aiohttp_parts._checked()


@pytest.mark.parametrize(
    ("table", "entry", "told"),
    [
        ("_PARTS", (web.BaseRequest, ("_no",)), "BaseRequest._no"),
        ("_STATE", (StreamReader, {"_no"}), "StreamReader._no"),
        (
            "_CALLS",
            (StreamWriter, "__init__", "self no"),
            r"StreamWriter.__init__\(self, no\)",
        ),
    ],
)
def test_a_part_that_is_missing_is_named_and_none_is_used(
    monkeypatch, table, entry, told
):
    """A name, a field or an argument."""
    there = getattr(aiohttp_parts, table)
    monkeypatch.setattr(aiohttp_parts, table, (*there, entry))
    with pytest.warns(RuntimeWarning, match=told):
        assert not aiohttp_parts._checked()


def test_all_parts_that_are_used_are_checked():
    """The names with an underscore in the module are in its tables."""
    text = Path(aiohttp_parts.__file__).read_text()
    used = set(
        re.findall(
            r"(?:self|request|response|content|web_protocol)\.(_[A-Za-z]\w+)", text
        )
    )
    own = set(
        re.findall(r"(?:def |self\.)(_(?:usual|make_room|stay|take|drop_rest))", text)
    )
    fields = set(re.findall(r"self\.(_(?:body|media_type|id)) = ", text))
    known = {name for _, names in aiohttp_parts._PARTS for name in names}
    known |= {name for _, names in aiohttp_parts._STATE for name in names}
    assert used - own - fields - known == set()


def test_no_other_module_touches_what_is_aiohttps_own():
    """So that one place is to look at when aiohttp changes."""
    root = Path(kitmsg_gateways.__file__).parent
    private = re.compile(r"aiohttp\._|web_protocol|aiohttp\.(helpers|http_writer)\b")
    own = Path(aiohttp_parts.__file__)
    touching = [
        path.name
        for path in root.rglob("*.py")
        if path != own and private.search(path.read_text())
    ]
    assert touching == []
