"""curl, as people type it."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import TYPE_CHECKING, Annotated, Any

import pytest

from kitmsg import Service, endpoint
from kitmsg.schema import header
from tests.require import need

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Greeter(Service):
    """Says hello."""

    @endpoint(http="GET /hello/{name}", cache=60)
    async def hello(
        self,
        name: str,
        marks: list[str] = [],  # noqa: B006
        mood: Annotated[str, header("X-Mood")] = "",
    ) -> str:
        return f"Hello, {name}{''.join(marks)}{mood}"

    @endpoint(http="PUT /texts/{id}")
    async def store(self, id: int, text: str) -> int:  # noqa: A002
        return id + len(text)


@pytest.fixture
async def curl(hub: Any, start: Any) -> Callable[..., Awaitable[tuple[str, bytes]]]:
    """Give a function that runs curl; returns the headers and the body."""
    await hub.serve(Greeter())
    call = await start(hub)
    program = need("curl")

    async def run(path: str, *flags: str, data: bytes = b"") -> tuple[str, bytes]:
        process = await asyncio.create_subprocess_exec(
            *(program, "--silent", "--show-error", "--max-time", "20", "--include"),
            *(*flags, f"{call.server.url}{path}"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate(data)
        assert process.returncode == 0
        head, _, body = out.partition(b"\r\n\r\n")
        while body.startswith(b"HTTP/1.1 ") and head.startswith(b"HTTP/1.1 100"):
            head, _, body = body.partition(b"\r\n\r\n")
        return head.decode(), body

    return run


async def test_a_get_with_all_that_belongs_to_it(curl):
    """Path, query, headers; then the tag, and 304."""
    head, body = await curl("/hello/Ann%20B?marks=%21&marks=%3F", "-H", "X-Mood: ;-)")
    assert head.startswith("HTTP/1.1 200 OK")
    assert json.loads(body) == "Hello, Ann B!?;-)"
    head, body = await curl("/hello/Ann", "--head")
    assert "ETag: " in head
    assert body == b""
    tag = head.partition("ETag: ")[2].partition("\r\n")[0]
    head, body = await curl("/hello/Ann", "-H", f"If-None-Match: {tag}")
    assert head.startswith("HTTP/1.1 304 ")
    assert body == b""
    head, _ = await curl("/hello/Ann", "-X", "OPTIONS")
    assert "Allow: GET, HEAD, OPTIONS" in head


async def test_a_put_with_a_body(curl):
    """Given on the command line, streamed from a pipe, or compressed."""
    assert (await curl("/texts/5", "-X", "PUT", "--json", '{"text":"ab"}'))[1] == b"7"
    data = json.dumps({"text": "a" * 50_000}).encode()
    json_type = ("-H", "Content-Type: application/json")
    chunked = ("-T", "-", "-H", "Transfer-Encoding: chunked", *json_type)
    assert (await curl("/texts/5", *chunked, data=data))[1] == b"50005"
    expecting = ("-T", "-", "-H", "Expect: 100-continue", *json_type)
    assert (await curl("/texts/5", *expecting, data=data))[1] == b"50005"
    packed = ("-T", "-", "-H", "Content-Encoding: gzip", *json_type)
    assert (await curl("/texts/5", *packed, data=gzip.compress(data)))[1] == b"50005"


async def test_a_long_answer_comes_compressed(curl):
    """When curl is told to ask for it, and comes out whole."""
    head, body = await curl("/openapi.json", "--compressed")
    assert "Content-Encoding: gzip" in head
    assert json.loads(body)["openapi"] == "3.1.0"


async def test_json_rpc_by_hand(curl):
    """A call, and a batch."""
    one = '{"jsonrpc":"2.0","method":"hello","params":["Ann"],"id":1}'
    _, body = await curl("/rpc", "--json", one)
    assert body == b'{"jsonrpc":"2.0","result":"Hello, Ann","id":1}\n'
    _, body = await curl("/rpc", "--json", f"[{one},{one}]")
    assert len(json.loads(body)) == 2


async def test_mistakes_are_told(curl):
    """As problem details, with what to do."""
    head, body = await curl("/hallo/Ann")
    assert head.startswith("HTTP/1.1 404 ")
    assert "did you mean 'GET /hello/{name}'" in json.loads(body)["detail"]
    head, body = await curl("/texts/5", "-X", "PUT", "-d", "text=ab")
    assert head.startswith("HTTP/1.1 415 ")
    assert "curl --json" in json.loads(body)["detail"]
