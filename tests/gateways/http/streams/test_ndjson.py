"""Items as lines of JSON, both ways."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from kitmsg_gateways.http.errors import Problem
from kitmsg_gateways.http.streams.formats import NDJSON, NdJson
from kitmsg_gateways.http.streams.source import lines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LINES = {"Content-Type": NDJSON}


async def test_a_line_for_each_item(read):
    """It is what a client gets that does not say what it wants."""
    response, body = await read("GET", "/count/3")
    assert response.status == 200
    assert response.headers["Content-Type"] == NDJSON
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Request-Id"]
    assert body == b"0\n1\n2\n"


async def test_a_line_break_in_an_item_is_none_in_the_body(read):
    """JSON escapes it."""
    _, body = await read("GET", "/lines")
    assert [json.loads(line) for line in body.splitlines()] == ["two\nlines", "ünïcode"]


def test_an_item_of_many_lines_is_written_on_one():
    """As a foreign service may send it."""
    assert NdJson().item(b'{\n  "a": 1\n}') == b'{"a":1}\n'


async def test_after_an_error_the_last_line_is_its_problem(read):
    """Items that came before it stand before it."""
    response, body = await read("POST", "/feed/fail", json={"after": 2, "typed": True})
    assert response.status == 200
    *items, last = [json.loads(line) for line in body.splitlines()]
    assert items == [0, 1]
    assert last["type"] == "urn:kitmsg:error:SoldOut"
    assert last["status"] == 409
    assert last["details"] == {"sku": "tea"}
    assert last["request_id"] == response.headers["X-Request-Id"]


async def test_lines_are_the_items_of_a_client_stream(call, feed):
    """The result is the answer; empty lines count for nothing."""
    body = b"1\n2\r\n\n \n3"
    response, result = await call(
        "POST", "/feed/total?start=10", data=body, headers=LINES
    )
    assert response.status == 200
    assert result == 16
    assert feed.taken == [1, 2, 3]


async def test_no_items_at_all(call):
    """A request without a body is a stream without items."""
    _, result = await call("POST", "/feed/total?start=5")
    assert result == 5


async def test_an_item_that_does_not_fit_is_refused(call, nothing_left):
    """The answer is the problem, though the stream had begun."""
    response, problem = await call(
        "POST", "/feed/total", data=b'1\n"two"\n', headers=LINES
    )
    assert response.status == 400
    assert problem["detail"] == "item 2 does not fit: expected int, got str"
    await nothing_left()


async def test_an_error_of_the_service_answers_an_upload(call):
    """Before the client has sent all of it, too."""

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"1\n" * 1000
            await asyncio.sleep(0)

    response, problem = await call(
        "POST", "/feed/refuse", data=endless(), headers=LINES
    )
    assert response.status == 409
    assert problem["error"] == "SoldOut"


async def test_both_ways_over_one_request(call):
    """Where a client can read while it writes, a POST will do."""
    more: asyncio.Queue[bytes] = asyncio.Queue()

    async def body() -> AsyncIterator[bytes]:
        while line := await more.get():
            yield line

    await more.put(b'"a"\n')
    async with call.session.post(
        "/feed/echo?prefix=%3E", data=body(), headers=LINES
    ) as response:
        assert await response.content.readline() == b'">a"\n'
        await more.put(b'"b"\n')
        assert await response.content.readline() == b'">b"\n'
        await more.put(b"")
        assert await response.content.read() == b""


async def test_a_line_that_is_too_long(hub, feed, start, nothing_left):
    """It is 413, whether its end has come or not."""
    call = await start(hub, max_body_bytes=100)
    for tail in (b"\n1\n", b""):
        response, problem = await call(
            "POST", "/feed/total", data=b"1\n" + b"1" * 101 + tail, headers=LINES
        )
        assert response.status == 413
        assert "longer than 100 bytes" in problem["detail"]
        assert "max_body_bytes" in problem["detail"]
    await nothing_left()


async def split(body: bytes, size: int, limit: int = 1000) -> list[bytes]:
    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(body), size):
            yield body[at : at + size]

    return [line async for line in lines(chunks(), limit)]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
async def test_lines_are_the_same_however_they_arrive(size):
    """Where one read ends and the next begins does not matter."""
    assert await split(b"one\ntwo\n\n\nthree\nfour", size) == [
        b"one",
        b"two",
        b"three",
        b"four",
    ]


async def test_the_limit_is_of_a_line_not_of_the_body():
    """A thousand short lines are fine, one byte too many in one is not."""
    assert len(await split(b"12345\n" * 1000, 7, limit=5)) == 1000
    with pytest.raises(Problem, match="longer than 5 bytes"):
        await split(b"12345\n123456\n", 100, limit=5)
