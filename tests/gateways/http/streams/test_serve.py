"""What a request for a stream gets, whatever form it is in."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from kitmsg.middleware import cache
from kitmsg_gateways.http.streams.formats import NDJSON, SSE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LINES = {"Content-Type": NDJSON}


async def test_every_stream_can_be_had_at_its_own_path(read):
    """With GET too: a browser knows nothing else."""
    assert (await read("GET", "/feed/count?n=1"))[1] == b"0\n"
    assert (await read("POST", "/feed/count", json={"n": 1}))[1] == b"0\n"


async def test_a_form_that_we_do_not_have(call):
    """406 names those that there are; an array of a stream is none."""
    headers = {"Accept": "application/json"}
    response, problem = await call("GET", "/count/1", headers=headers)
    assert response.status == 406
    assert problem["field"] == "Accept"
    assert NDJSON in problem["detail"]
    assert SSE in problem["detail"]
    assert "'Accept: */*'" in problem["detail"]


async def test_the_status_is_the_one_that_the_endpoint_declares(read):
    """For streams as for any other answer."""
    for method in ("GET", "HEAD"):
        response, _ = await read(method, "/feed/later")
        assert response.status == 202
    response, body = await read("POST", "/feed/sink", data=b"1\n", headers=LINES)
    assert (response.status, body) == (201, b"")


async def test_head_opens_no_stream(read, feed):
    """It tells the type of what a GET would give."""
    response, body = await read("HEAD", "/wait", headers={"Accept": SSE})
    assert (response.status, body) == (200, b"")
    assert response.headers["Content-Type"] == SSE
    assert not feed.began.is_set()


async def test_items_cannot_come_with_get(call):
    """426: a WebSocket could carry them."""
    for path in ("/echo", "/feed/total"):
        response, problem = await call("GET", path)
        assert response.status == 426
        assert response.headers["Upgrade"] == "websocket"
        assert "WebSocket" in problem["detail"]


async def test_parameters_that_do_not_fit(call, nothing_left):
    """400, as for any call."""
    for path in ("/count/x", "/count/1?stepp=2", "/feed/count"):
        response, _ = await call("GET", path)
        assert response.status == 400
    response, _ = await call("POST", "/feed/count", json={"n": "x"})
    assert response.status == 400
    await nothing_left()


async def test_parameters_in_msgpack(call):
    """415: items would have to be, too, and lines and events cannot."""
    headers = {"Content-Type": "application/msgpack"}
    response, problem = await call("POST", "/feed/count", data=b"\x80", headers=headers)
    assert response.status == 415
    assert "WebSocket" in problem["detail"]


async def test_a_deadline_is_for_all_of_a_stream(read, feed, nothing_left):
    """There is none unless the client says so; the problem comes as the form has it."""
    headers = {"Request-Timeout": "0.3"}
    response, body = await read("GET", "/wait?items=1", headers=headers)
    assert response.status == 200
    item, problem = body.splitlines()
    assert item == b"0"
    assert json.loads(problem)["status"] == 504
    assert feed.ended.is_set()
    await nothing_left()


async def test_a_client_that_leaves_ends_the_work(call, feed, nothing_left):
    """The handler is cancelled."""
    async with call.session.get("/wait?items=1") as response:
        await response.content.readline()
    await asyncio.wait_for(feed.ended.wait(), 5)
    await nothing_left()


async def test_a_client_that_does_not_read_slows_the_service(
    call, feed, until, nothing_left
):
    """What lies between them is bounded, however much there is to come."""
    async with call.session.get("/flood?n=100000") as response:
        await until(lambda: feed.sent > 10)
        before = -1
        while feed.sent != before:
            before = feed.sent
            await asyncio.sleep(0.05)
        assert feed.sent < 5_000  # 50 MB of 1000; most of it in the kernel's buffers
        response.close()
    await nothing_left()


async def test_a_client_that_never_reads_is_left(hub, feed, start, nothing_left):
    """After the time that an answer may take to be sent."""
    call = await start(hub, send_timeout=0.2)
    _, writer = await asyncio.open_connection("127.0.0.1", call.server.port, limit=1)
    writer.write(b"GET /flood?n=100000 HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.wait_for(feed.ended.wait(), 10)
    writer.transport.abort()
    await nothing_left()


async def test_streams_have_a_limit_of_their_own(hub, feed, start):
    """429 for one more; calls that do not stream go on, and do not count them."""
    call = await start(hub, max_streams=2, max_concurrent=1)
    async with (
        call.session.get("/wait?items=1") as one,
        call.session.get("/wait?items=1") as two,
    ):
        await one.content.readline()
        await two.content.readline()
        response, problem = await call("GET", "/count/1")
        assert response.status == 429
        assert problem["detail"] == "the gateway is full: 2 streams are open"
        assert response.headers["Retry-After"] == "1"
        response, body = await call("POST", "/feed/plus", json={"a": 1, "b": 2})
        assert (response.status, body) == (200, 3)


async def test_what_moves_may_end_when_the_gateway_stops(hub, feed, start):
    """A download and an upload are finished; nothing new begins."""
    call = await start(hub, drain_timeout=5)
    release = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"1\n"
        await release.wait()
        yield b"2\n"

    async def upload() -> Any:
        async with call.session.post(
            "/feed/total", data=body(), headers=LINES
        ) as answer:
            return await answer.json()

    uploading = asyncio.create_task(upload())
    async with call.session.get("/wait?items=1") as response:
        assert await response.content.readline() == b"0\n"
        await asyncio.wait_for(feed.began.wait(), 5)
        stopping = asyncio.create_task(call.server.stop())
        await asyncio.sleep(0)
        feed.go_on.set()
        release.set()
        assert await response.content.read() == b""
        assert await uploading == 3
        await stopping


async def test_a_download_that_does_not_end_is_cut_off(hub, feed, start, nothing_left):
    """When the gateway's time to stop is up; its work ends too."""
    call = await start(hub, drain_timeout=0.1)
    async with call.session.get("/wait?items=1") as response:
        assert await response.content.readline() == b"0\n"
        stopping = asyncio.create_task(call.server.stop())
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.content.read()
        await stopping
    await asyncio.wait_for(feed.ended.wait(), 5)
    await nothing_left()


async def test_a_quiet_stream_does_not_hold_up_a_gateway_that_stops(
    hub, feed, start, monkeypatch
):
    """It is cut off, with a problem that says why."""
    monkeypatch.setattr("kitmsg_gateways.http.streams.serve.QUIET_SECONDS", 0.05)
    call = await start(hub, drain_timeout=60)
    async with call.session.get("/wait?items=1") as response:
        assert await response.content.readline() == b"0\n"
        stopping = asyncio.create_task(call.server.stop())
        problem = json.loads(await response.content.read())
        await stopping
    assert (problem["status"], problem["code"]) == (503, "unavailable")


async def test_a_service_that_stops_ends_its_streams(hub, feed, call, nothing_left):
    """As an error that says so."""
    async with call.session.get("/wait?items=1") as response:
        await response.content.readline()
        await hub.hosts[0].drain(0.1)
        last = json.loads(await response.content.read())
    assert last["status"] == 503
    await nothing_left()


async def test_streams_are_counted(call, read):
    """Those that are open, and how the others ended."""
    await read("GET", "/count/1")
    await read("GET", "/count/1", headers={"Accept": SSE})
    await read("GET", "/feed/fail?after=1")
    await call("POST", "/feed/total", data=b"1", headers=LINES)
    async with call.session.get("/wait?items=1") as response:
        await response.content.readline()
        _, text = await call("GET", "/metrics")
    assert b'kitmsg_gateway_streams{gateway="http",kind="ndjson"} 1' in text
    for kind, outcome in (
        ("ndjson", "ok"),
        ("sse", "ok"),
        ("ndjson", "not_found"),
        ("upload", "ok"),
    ):
        labels = f'gateway="http",kind="{kind}",outcome="{outcome}"'
        name = f"kitmsg_gateway_streams_ended_total{{{labels}}}"
        assert f"{name} 1".encode() in text


async def test_headers_that_a_page_needs_are_on_a_stream_too(hub, feed, start):
    """CORS, for one: a page of an allowed origin may read it."""
    call = await start(hub, cors_origins=("https://shop.example",))
    headers = {"Origin": "https://shop.example", "Accept": SSE}
    async with call.session.get("/count/1", headers=headers) as response:
        allowed = response.headers["Access-Control-Allow-Origin"]
    assert allowed == "https://shop.example"


async def test_a_cache_of_the_gateway_keeps_no_stream(hub, feed, start):
    """The second request gets all items, and not the rest of the first one's."""
    call = await start(hub, middleware=(cache(60.0),))
    for _ in range(2):
        async with call.session.get("/feed/count?n=2") as response:
            assert await response.read() == b"0\n1\n"


async def test_http_1_0_gets_a_stream_that_ends_with_the_connection(call):
    """It knows no chunks."""
    answer = await call.raw(b"GET /count/3 HTTP/1.0\r\nHost: x\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Transfer-Encoding" not in head
    assert body == b"0\n1\n2\n"


async def test_a_connection_can_be_used_again_after_a_stream(call):
    """Its end is plain to see."""
    request = b"GET /count/2 HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /count/2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = await call.raw(request + last)
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.endswith(b"0\r\n\r\n")
