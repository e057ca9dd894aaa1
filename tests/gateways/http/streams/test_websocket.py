"""WebSockets, by a client library that is not ours."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from kitmsg_gateways.http.streams.protocol import Opcode, frame

pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode


@pytest.fixture
def dial(call):
    """Give a function that opens a WebSocket to a path."""

    def open_(path, to=call, **options):
        url = f"ws://127.0.0.1:{to.server.port}{path}"
        return connect(url, **{"ping_interval": None, "close_timeout": 5, **options})

    return open_


async def rest(socket: Any) -> tuple[list[Any], int, str]:
    """Return what comes until the end, the close code and the reason."""
    found = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            found.append(await socket.recv())
    return found, socket.close_code, socket.close_reason


async def test_items_both_ways_in_json(dial):
    """Each is a text message; an empty one says that there are no more."""
    async with dial("/echo?prefix=%3E", subprotocols=["kitmsg.json"]) as socket:
        assert socket.subprotocol == "kitmsg.json"
        await socket.send('"a"')
        assert await socket.recv() == '">a"'
        await socket.send('"b"')
        await socket.send("")
        assert await rest(socket) == (['">b"'], 1000, "")


async def test_items_both_ways_in_msgpack(dial):
    """Each is a binary message."""
    async with dial("/feed/echo", subprotocols=["kitmsg.msgpack"]) as socket:
        assert socket.subprotocol == "kitmsg.msgpack"
        await socket.send(pack({"prefix": ">"}))
        await socket.send(pack("a"))
        assert unpack(await socket.recv()) == ">a"
        await socket.send(b"")
        assert await rest(socket) == ([], 1000, "")


async def test_the_first_of_two_known_subprotocols_is_taken(dial):
    """Unknown ones are passed over; without any it is JSON."""
    wanted = ["graphql", "kitmsg.msgpack", "kitmsg.json"]
    async with dial("/echo", subprotocols=wanted) as socket:
        assert socket.subprotocol == "kitmsg.msgpack"
    async with dial("/echo") as socket:
        assert socket.subprotocol is None
        await socket.send("{}")
        await socket.send('"a"')
        assert await socket.recv() == '"a"'


async def test_the_first_message_has_the_parameters(dial):
    """Unless they are in the URL; an empty one stands for none."""
    async with dial("/feed/count") as socket:
        await socket.send('{"n": 2, "step": 5}')
        assert await rest(socket) == (["0", "5"], 1000, "")
    async with dial("/count/2") as socket:
        assert await rest(socket) == (["0", "1"], 1000, "")
    async with dial("/feed/total") as socket:
        await socket.send("")
        await socket.send("1")
        await socket.send("")
        assert await rest(socket) == (["1"], 1000, "")


async def test_the_result_of_a_client_stream_is_the_one_message(dial):
    """It comes when the client has finished."""
    async with dial("/feed/total?start=10") as socket:
        for item in "123":
            await socket.send(item)
        await socket.send("")
        assert await rest(socket) == (["16"], 1000, "")


async def test_an_error_is_a_problem_and_a_close_code(dial):
    """The problem is of the other kind than items; the code has its status."""
    async with dial("/feed/fail?after=1&typed=true") as socket:
        (item, problem), code, reason = await rest(socket)
    assert item == "0"
    assert isinstance(problem, bytes)
    assert json.loads(problem)["details"] == {"sku": "tea"}
    assert (code, reason) == (4409, "tea is sold out")
    async with dial("/feed/fail", subprotocols=["kitmsg.msgpack"]) as socket:
        await socket.send(b"")
        (problem,), code, _ = await rest(socket)
    assert isinstance(problem, str)
    assert json.loads(problem)["status"] == 404
    assert code == 4404


@pytest.mark.parametrize(
    ("path", "messages", "code", "detail"),
    [
        ("/count/x", [], 4400, "parameter 'n' must be a whole number, not 'x'"),
        ("/feed/count", ["[1]"], 4400, "it is no JSON"),
        ("/feed/count", ['{"m": 1}'], 4400, "n"),
        ("/feed/total?start=0", ['"x"'], 4400, "expected int, got str"),
        ("/feed/total?start=0", ["}"], 4400, "not valid json"),
        ("/wait?items=0", ["1"], 4400, "none was to come any more"),
        ("/echo?prefix=", ['"a"', "", '"b"'], 4400, "none was to come any more"),
    ],
)
async def test_what_does_not_fit(dial, path, messages, code, detail, nothing_left):
    """It is told as any error is."""
    async with dial(path) as socket:
        for message in messages:
            await socket.send(message)
        found, closed, _ = await rest(socket)
    assert closed == code
    problem = json.loads(found[-1])
    assert problem["status"] == code - 4000
    if "no JSON" not in detail:
        assert detail in problem["detail"]
    await nothing_left()


async def test_a_message_of_the_wrong_kind(dial):
    """1003: items of JSON are text."""
    async with dial("/echo?prefix=") as socket:
        await socket.send(b'"a"')
        assert (await rest(socket))[1:] == (1003, "items are text in this subprotocol")


async def test_a_message_that_is_too_long(dial, hub, feed, start):
    """1009, by its announced length, before it has come."""
    to = await start(hub, max_body_bytes=1000)
    async with dial("/echo?prefix=", to) as socket:
        await socket.send('"' + "x" * 998 + '"')
        assert len(await socket.recv()) == 1000
        await socket.send('"' + "x" * 999 + '"')
        assert (await rest(socket))[1] == 1009


async def test_fragments_are_one_message(dial):
    """A ping may come between them."""
    async with dial("/echo?prefix=") as socket:
        await socket.send(['"', "abc", "", 'd"'])
        assert await socket.recv() == '"abcd"'
        await (await socket.ping(b"hello"))


async def test_text_that_is_not_utf_8(dial):
    """1007."""
    async with dial("/echo?prefix=") as socket:
        await socket.send(b"\xff", text=True)
        assert (await rest(socket))[1] == 1007


async def test_a_client_that_closes_ends_the_work(dial, feed, nothing_left, call):
    """The handler is cancelled, and its close is answered with the same code."""
    async with dial("/wait?items=1") as socket:
        await socket.recv()
        await socket.close(4999, "enough")
        assert socket.close_code == 4999
    await asyncio.wait_for(feed.ended.wait(), 5)
    await nothing_left()


async def test_a_client_that_vanishes_ends_the_work(dial, feed, nothing_left):
    """Without a word, as when its process dies."""
    socket = await dial("/wait?items=1")
    await socket.recv()
    socket.transport.abort()
    await asyncio.wait_for(feed.ended.wait(), 5)
    await nothing_left()


async def test_a_quiet_client_is_pinged_and_a_dead_one_dropped(
    dial, hub, feed, start, nothing_left
):
    """One that answers stays; one that does not is gone after two heartbeats."""
    to = await start(hub, stream_heartbeat=0.05)
    async with dial("/wait?items=1", to) as socket:
        await socket.recv()
        await asyncio.sleep(0.3)
        feed.go_on.set()
        assert (await rest(socket))[1] == 1000
    feed.go_on.clear()
    feed.ended.clear()
    reader, writer = await handshake(to, "/wait?items=0")
    await asyncio.wait_for(feed.ended.wait(), 5)
    assert frame(Opcode.PING, b"") in await reader.read()
    writer.close()
    await nothing_left()


async def test_a_gateway_that_stops_says_so(dial, call, feed, nothing_left):
    """1001, at once, wherever the stream is."""
    async with dial("/wait?items=1") as one, dial("/echo") as two:
        await one.recv()
        stopping = asyncio.create_task(call.server.stop())
        assert (await rest(one))[1] == 1001
        assert (await rest(two))[1] == 1001
        await stopping
    await nothing_left()


async def test_a_client_that_does_not_say_what_it_wants(dial, hub, feed, start):
    """Parameters that do not come are waited for as long as for a body."""
    to = await start(hub, body_timeout=0.05)
    async with dial("/feed/count", to) as socket:
        assert (await rest(socket))[1] == 4408


async def test_a_deadline(dial):
    """``Request-Timeout`` is for all of it."""
    headers = {"Request-Timeout": "0.05"}
    async with dial("/wait?items=0", additional_headers=headers) as socket:
        assert (await rest(socket))[1] == 4504


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://evil.example", 403),
        ("null", 403),
        ("https://shop.example", 101),
        (None, 101),
    ],
)
async def test_pages_of_foreign_origins_are_refused(hub, feed, start, origin, status):
    """A browser would let them connect; clients that are no browser may."""
    to = await start(hub, cors_origins=("https://shop.example",))
    reader, writer = await handshake(to, "/count/1", Origin=origin)
    assert (await reader.readline()).startswith(f"HTTP/1.1 {status} ".encode())
    writer.close()


async def test_the_gateways_own_pages_may_connect(dial, call):
    """The docs page is one."""
    async with dial("/count/1", origin=call.server.url) as socket:
        assert (await rest(socket))[0] == ["0"]


KEY = "dGhlIHNhbXBsZSBub25jZQ=="


async def handshake(
    to: Any, path: str, version: str = "1.1", **changes: str | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask for a WebSocket on a connection of one's own; return its two ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", to.server.port)
    headers = {
        "Host": "x",
        "Upgrade": "websocket",
        "Connection": "keep-alive, Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    lines = [f"{name}: {value}" for name, value in headers.items() if value]
    request = "\r\n".join([f"GET {path} HTTP/{version}", *lines, "", ""])
    writer.write(request.encode())
    return reader, writer


async def test_the_handshake_is_the_one_of_the_standard(call):
    """The example of RFC 6455, section 1.3."""
    reader, writer = await handshake(call, "/count/1")
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    assert head.startswith("HTTP/1.1 101 Switching Protocols\r\n")
    assert "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head
    assert "X-Request-Id: " in head
    assert await reader.readexactly(3) == frame(Opcode.TEXT, b"0")
    writer.close()


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"Sec_WebSocket_Key": ""}, 400),
        ({"Sec_WebSocket_Key": "c2hvcnQ="}, 400),
        ({"Sec_WebSocket_Key": "not base64!"}, 400),
        ({"Sec_WebSocket_Key": f"{KEY}\r\nSec-WebSocket-Key: {KEY}"}, 400),
        ({"Sec_WebSocket_Version": "8"}, 426),
        ({"Sec_WebSocket_Version": ""}, 426),
        ({"Sec_WebSocket_Protocol": "graphql, soap"}, 400),
    ],
)
async def test_a_handshake_that_is_none(call, changes, status):
    """It is refused with a problem, in plain HTTP."""
    reader, writer = await handshake(call, "/count/1", **changes)
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    assert head.startswith(f"HTTP/1.1 {status} ")
    assert "application/problem+json" in head
    writer.close()


async def test_a_request_of_an_older_http_gets_no_upgrade(call):
    """RFC 9110, section 7.8: its ``Upgrade`` is not heard, and the items come as lines."""
    reader, writer = await handshake(
        call, "/count/1", version="1.0", Connection="Upgrade"
    )
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0].endswith(b" 200 OK")
    assert b"Upgrade" not in head
    assert body == b"0\n"
    writer.close()


async def test_unary_endpoints_are_no_websocket(call):
    """Their GET is not there, upgraded or not."""
    reader, writer = await handshake(call, "/feed/plus")
    assert (await reader.readline()).startswith(b"HTTP/1.1 405 ")
    writer.close()


async def test_a_client_that_does_not_read_slows_the_service(
    dial, feed, until, nothing_left
):
    """What lies between them is bounded, however much there is to come."""
    socket = await dial("/flood?n=100000&size=1000", max_queue=1)
    await until(lambda: feed.sent > 10)
    before = -1
    while feed.sent != before:
        before = feed.sent
        await asyncio.sleep(0.05)
    assert feed.sent < 50_000  # 50 MB of 100; most of it in the kernel's buffers
    socket.transport.abort()
    await nothing_left()


async def test_a_service_that_does_not_take_slows_the_client(
    dial, feed, hub, start, nothing_left
):
    """The socket is not read while items wait; that the client left is found out."""
    to = await start(hub, stream_heartbeat=0.05)
    socket = await dial("/feed/idle_upload", to)
    item = json.dumps("A" * 100_000)
    sent = 0

    async def send() -> None:
        nonlocal sent
        while True:
            await socket.send(item)
            sent += 1

    sending = asyncio.create_task(send())
    before = -1
    while sent != before:
        before = sent
        await asyncio.sleep(0.1)
    assert sent < 200  # 20 MB; most of it in the kernel's buffers
    sending.cancel()
    raw = socket.transport.get_extra_info("socket")
    raw.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    socket.transport.abort()  # by a reset: a plain end would stand behind the items
    await nothing_left()


async def test_many_items_come_whole_and_in_order(dial):
    """Both ways at once, and far more than fit into one window."""
    count = 20_000
    async with dial("/echo?prefix=") as socket:

        async def send() -> None:
            for i in range(count):
                await socket.send(f'"{i}"')
            await socket.send("")

        sending = asyncio.create_task(send())
        found, code, _ = await rest(socket)
        await sending
    assert found == [f'"{i}"' for i in range(count)]
    assert code == 1000


async def test_ends_are_counted(dial, call, until):
    """By kind and outcome; none is open at the end."""
    async with dial("/count/1") as socket:
        await rest(socket)
    async with dial("/feed/fail?after=0") as socket:
        await rest(socket)
    async with dial("/echo?prefix=") as socket:
        await socket.send(b"x")
        await rest(socket)
    await until(lambda: len(call.server.api.live) == 0)
    assert call.server.api.live.ended == {
        ("websocket", "ok"): 1,
        ("websocket", "not_found"): 1,
        ("websocket", "protocol"): 1,
    }
    _, text = await call("GET", "/metrics")
    labels = b'gateway="http",kind="websocket",outcome="ok"'
    assert b"kitmsg_gateway_streams_ended_total{%s} 1" % labels in text
