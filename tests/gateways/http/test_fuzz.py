"""Bad input: an answer in the protocol's own terms or a closed connection, and no leak."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import re
from collections import Counter
from typing import Annotated, Any

import pytest
from hypothesis import given, settings, strategies as st

from kitmsg import Service, endpoint
from kitmsg.errors import KitError
from kitmsg.schema import header
from kitmsg_gateways.http import jsonrpc
from kitmsg_gateways.http.jsonrpc import Call, RpcError, parse

INPUTS = 20_000 if os.environ.get("KITMSG_LONG") else 300
AT_ONCE = 100

BODY = b'{"name":"Ann","times":2}'
CALLS = (
    b'[{"jsonrpc":"2.0","method":"greeter.hello","params":{"name":"Ann"},"id":1},'
    b'{"jsonrpc":"2.0","method":"hello","params":["Bob",2]}]'
)


class Greeter(Service):
    """Says hello."""

    @endpoint(http="GET /hello/{name}", cache=60)
    async def hello(
        self,
        name: str,
        times: int = 1,
        marks: Annotated[list[str], header("X-Marks")] = [],  # noqa: B006
    ) -> str:
        return f"Hello, {name}" + "!" * min(times, 10) + "".join(marks)


def posted(path: bytes, body: bytes, *more: bytes) -> bytes:
    """Return a whole request."""
    lines = [
        b"POST %b HTTP/1.1" % path,
        b"Host: x",
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(body),
        *more,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


SEEDS = (
    b"GET /hello/Ann?times=2 HTTP/1.1\r\nHost: x\r\nX-Marks: a, b\r\n\r\n",
    b'HEAD /hello/%41nn HTTP/1.1\r\nHost: x\r\nIf-None-Match: W/"a", *\r\n\r\n',
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /docs HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip;q=0.5, *\r\n\r\n",
    posted(b"/greeter/hello", BODY, b"Request-Timeout: 1.5"),
    posted(b"/greeter/hello", BODY, b"Content-Encoding: gzip"),
    posted(b"/rpc", CALLS),
    b"POST /greeter/hello HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'3\r\n{"n\r\nb\r\name":"Ann"}\r\n0\r\n\r\n',
    b"POST /rpc HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
    b"Content-Length: 2\r\n\r\n{}",
)
BITS = (
    b"\r\n", b"\n", b"\r", b"\0", b" ", b":", b",", b"\xff", b"{", b"[", b'"', b"}", b"]",
    b"%", b"%ff", b"/..", b"-1", b"0", b"9" * 30, b"1e999", b"null", b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n", b"X: " + b"a" * 9000 + b"\r\n", b"HTTP/9.9",
    b"Connection: upgrade\r\nUpgrade: websocket\r\n", b"[" * 3000, b'{"a":' * 3000,
)  # fmt: skip


def mutated(chance: random.Random, seed: bytes) -> bytes:
    """Return a request with a few things wrong, cut, doubled or out of place."""
    data = bytearray(seed)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        at = chance.randrange(len(data) + 1)
        to = min(len(data), at + chance.choice((1, 1, 2, 8, 40)))
        kind = chance.randrange(6)
        if kind == 0:
            data[at:at] = chance.choice(BITS)
        elif kind == 1:
            del data[at:to]
        elif kind == 2:
            data[at:at] = data[at:to]
        elif kind == 3:
            data[at:to] = chance.randbytes(to - at)
        elif kind == 4:
            data[at:to] = chance.choice(BITS)
        else:
            del data[at:]
    return bytes(data)


STATUS = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)(?: |\r)")


async def answered(port: int, data: bytes, *, is_half_closed: bool = False) -> bytes:
    """Send bytes and return all that comes until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    try:
        writer.write(data)
        if is_half_closed:
            writer.write_eof()
        async with asyncio.timeout(15):
            return await reader.read()
    except ConnectionError:
        return b""
    except TimeoutError:
        raise AssertionError(f"nothing ends the connection after {data!r}") from None
    finally:
        writer.close()


async def each(inputs: list[bytes], check: Any) -> None:
    """Run a check on each input, a few at once."""
    few = asyncio.Semaphore(AT_ONCE)

    async def one(data: bytes) -> None:
        async with few:
            await check(data)

    await asyncio.gather(*map(one, inputs))


def tasks() -> list[str]:
    """Return what runs, but for a mailbox's workers: they stay for the next turns."""
    running: list[Any] = [task.get_coro() for task in asyncio.all_tasks()]
    names = [coroutine.__qualname__ for coroutine in running]
    return [name for name in names if name != "Mailbox._work"]


@pytest.fixture
async def call(hub, start):
    """A client of a gateway."""
    await hub.serve(Greeter())
    return await start(hub)


@pytest.mark.timeout(600)
async def test_no_bytes_on_a_connection_break_the_gateway(hub, start, caplog, until):
    """Every answer is one of HTTP's; then all is as it was before."""
    await hub.serve(Greeter())
    call = await start(hub, header_timeout=0.1, body_timeout=0.1, keepalive_timeout=0.1)
    caplog.set_level(logging.WARNING)
    assert (await call("GET", "/hello/Ann"))[1] == "Hello, Ann!"
    await call.session.close()
    server = call.server
    await until(lambda: not server.web.connections)
    before = len(tasks())
    chance = random.Random(7)
    seen: Counter[bytes] = Counter()

    async def check(data: bytes) -> None:
        is_half_closed = chance.random() < 0.1
        reply = await answered(server.port, data, is_half_closed=is_half_closed)
        first = STATUS.match(reply)
        assert first or not reply, (data, reply[:200])
        code = first[1] if first else b"closed"
        seen[code] += 1
        assert b"Traceback" not in reply

    inputs = [mutated(chance, chance.choice(SEEDS)) for _ in range(INPUTS)]
    await each(inputs, check)
    print(f"{INPUTS} mutated requests: {dict(seen)}")
    assert not any(code.startswith(b"50") and code != b"505" for code in seen), seen
    assert {b"200", b"400"} <= {*seen}
    await until(lambda: not server.web.connections)
    await until(lambda: len(tasks()) <= before)
    assert server.metrics.in_flight == 0
    assert server.budget.held == 0
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert (await answered(server.port, SEEDS[0])).startswith(b"HTTP/1.1 200 ")


async def test_no_body_breaks_json_rpc(call):
    """Every answer is one of JSON-RPC's, and counted."""
    chance = random.Random(11)
    tried = INPUTS // 2

    async def check(body: bytes) -> None:
        headers = {"Content-Type": "application/json"}
        url = f"{call.server.url}/rpc"
        async with call.session.post(url, data=body, headers=headers) as response:
            text = await response.read()
        assert response.status == (200 if text else 204)
        said = json.loads(text) if text else []
        for answer in said if isinstance(said, list) else [said]:
            assert answer["jsonrpc"] == "2.0"
            assert ("result" in answer) is not ("error" in answer)
            assert "id" in answer
            if "error" in answer:
                assert answer["error"]["code"] in {-32700, -32600, -32601, -32602}

    await each([mutated(chance, CALLS) for _ in range(tried)], check)
    count = call.server.api.rpc.counts.__getitem__
    print(f"{tried} mutated JSON-RPC bodies: {count(-32700)} were no JSON")
    assert count(-32700)
    assert count(-32600)


async def test_no_body_breaks_an_endpoint(call):
    """It is taken, or refused as the caller's fault."""
    chance = random.Random(13)
    tried = INPUTS // 2
    seen: Counter[int] = Counter()

    async def check(body: bytes) -> None:
        headers = {"Content-Type": "application/json"}
        url = f"{call.server.url}/greeter/hello"
        async with call.session.post(url, data=body, headers=headers) as response:
            said = json.loads(await response.read())
        assert response.status in (200, 400)
        assert response.status == 200 or said["code"] == "invalid_argument"
        seen[response.status] += 1

    await each([mutated(chance, BODY) for _ in range(tried)], check)
    print(f"{tried} mutated JSON bodies: {dict(seen)}")
    assert seen.keys() == {200, 400}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
MEMBERS = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.just("2.0") | JSON,
        "method": st.text() | JSON,
        "params": JSON,
        "id": st.integers() | st.text() | JSON,
    },
)


def checked(body: bytes) -> None:
    """Parse a body: what comes out is calls and errors with ids that are JSON."""
    try:
        items, _ = parse(body, 50)
    except RpcError as exc:
        items = [exc]
    for item in items:
        if isinstance(item, RpcError):
            json.loads(jsonrpc.failure(item))
        elif item.id is not None:
            assert isinstance(item, Call)
            json.loads(jsonrpc.success(item.id, item.params))


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_have_a_json_rpc_answer(body):
    """Which is JSON, whatever they are."""
    checked(body)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(MEMBERS | st.lists(MEMBERS | JSON, max_size=5) | JSON)
def test_any_json_has_a_json_rpc_answer(value):
    """Also what is nearly a call."""
    checked(json.dumps(value).encode("utf-8", "surrogatepass"))


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.text(max_size=100), st.binary(max_size=100))
def test_any_query_and_body_is_read_or_refused(query, body):
    """A refusal is a `KitError`, never anything else."""
    from kitmsg.codec import JSON as CODEC
    from kitmsg.schema import signature
    from kitmsg_gateways.http.bind import Parameters

    parameters = Parameters(signature(Greeter.hello).request_schema())
    try:
        built = parameters.build({"name": query}, query, body, CODEC)
    except KitError:
        return
    assert isinstance(json.loads(built), dict)
