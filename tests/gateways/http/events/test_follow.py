"""``GET /events/{name}``: the log of an event as server-sent events, lines, messages."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cloudevents.core.formats.json import JSONFormat
from websockets.asyncio.client import connect

import kitmsg
from kitmsg.wire import CE_ID
from kitmsg_gateways.http.streams.formats import NDJSON, SSE
from tests.gateways.http.events.conftest import (
    Noted,
    OrderPlaced,
    Orders,
    event,
    make_streams,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

PATH = "/events/orders.placed"
EVENTS = {"Accept": SSE}


async def _publish(kit: kitmsg.Kit, *names: str) -> None:
    for name in names:
        await kit.publish(OrderPlaced(name))


class Follower:
    """A client that reads server-sent events."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.id = ""

    async def next(self) -> tuple[str, dict[str, Any]]:
        """Return the kind of the next event, and its data."""
        kind, data = "message", None
        async with asyncio.timeout(20):
            async for line in self.response.content:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "id":
                    self.id = value
                elif name == "event":
                    kind = value
                elif name == "data":
                    data = json.loads(value)
                elif not name and data is not None:
                    return kind, data
        raise EOFError

    async def names(self, count: int) -> list[str]:
        """Return the orders of the next events."""
        return [(await self.next())[1]["data"]["order_id"] for _ in range(count)]


@contextlib.asynccontextmanager
async def following(
    call: Any, query: str = "", **headers: str
) -> AsyncIterator[Follower]:
    given = {**EVENTS, **{n.replace("_", "-"): v for n, v in headers.items()}}
    async with call.session.get(f"{PATH}{query}", headers=given) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == SSE
        yield Follower(response)


async def lines(call: Any, query: str, path: str = PATH) -> list[dict[str, Any]]:
    """Return what is stored, as lines."""
    async with call.session.get(f"{path}{query}&follow=false") as response:
        body = await response.read()
        assert response.status == 200, body
        assert response.content_type == NDJSON
        return [json.loads(line) for line in body.splitlines()]


async def test_a_follower_sees_what_comes(kit, call):
    """From the moment on that it is there; each with its number in the log."""
    await _publish(kit, "before")
    async with following(call) as follower:
        await _publish(kit, "a", "b")
        kind, seen = await follower.next()
        assert (kind, follower.id) == ("message", "2")
        assert seen["data"] == {"order_id": "a", "total": "1"}
        assert (seen["type"], seen["sequence"]) == ("orders.placed", "2")
        assert await follower.names(1) == ["b"]
        await _publish(kit, "c")
        assert await follower.names(1) == ["c"]


async def test_an_event_is_one_of_the_cloudevents_package(kit, call):
    """A peer reads the lines."""
    await _publish(kit, "a")
    (line,) = await lines(call, "?since=1")
    found = JSONFormat().read(None, json.dumps(line))
    assert found.get_type() == "orders.placed"
    assert found.get_data() == {"order_id": "a", "total": "1"}
    assert found.get_id()
    assert found.get_source()


@pytest.mark.parametrize("since", ["1", "%231", "1h", "2020-01-01T00:00:00Z"])
async def test_a_log_is_read_from_the_beginning_that_is_asked_for(kit, call, since):
    """A sequence, a time ago, a time; and then what comes."""
    await _publish(kit, "a", "b")
    async with following(call, f"?since={since}") as follower:
        assert await follower.names(2) == ["a", "b"]
        await _publish(kit, "c")
        assert await follower.names(1) == ["c"]


async def test_a_part_of_a_log(kit, call):
    """From a sequence or a time on; nothing where nothing is that new."""
    await _publish(kit, *"abcd")
    found = await lines(call, "?since=3")
    assert [each["data"]["order_id"] for each in found] == ["c", "d"]
    assert await lines(call, "?since=99") == []
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert await lines(call, f"?since={tomorrow}") == []


async def test_events_are_chosen_by_the_fields_of_their_subject(kit, call):
    """Those that are stored, and those that come."""
    await _publish(kit, "a", "b", "a.*", "a")
    found = await lines(call, "?since=1&order_id=a")
    assert [each["sequence"] for each in found] == ["1", "4"]
    found = await lines(call, "?since=1&order_id=a.*")
    assert [each["sequence"] for each in found] == ["3"]
    async with following(call, "?since=1&order_id=b") as follower:
        assert await follower.names(1) == ["b"]
        await _publish(kit, "a", "c", "b")
        await follower.next()
        assert follower.id == "7"


async def test_a_follower_goes_on_where_it_was(kit, call):
    """With the id of the last event that it has, whatever came between."""
    async with following(call, "?since=1") as follower:
        await _publish(kit, "a", "b")
        assert await follower.names(1) == ["a"]
        last = follower.id
    await _publish(kit, "c")
    async with following(call, "?since=1", Last_Event_ID=last) as follower:
        assert await follower.names(2) == ["b", "c"]


async def test_a_follower_goes_on_at_another_gateway(kit, call, start):
    """As after a restart: the log is the stream's, not the gateway's."""
    async with following(call) as follower:
        await _publish(kit, "a")
        assert await follower.names(1) == ["a"]
        stopping = asyncio.create_task(call.server.stop())
        tail = await follower.response.content.read()
        await stopping
    assert b"retry: " in tail
    await _publish(kit, "b")
    other = await start(kit, events=("orders.placed:read",))
    async with following(other, Last_Event_ID=follower.id) as again:
        assert await again.names(1) == ["b"]


async def test_a_log_that_was_purged_behind_the_id(kit, call):
    """The follower is told of the gap, and goes on with what there is."""
    await _publish(kit, "a", "b", "c", "d")
    stream = await kit.jetstream.stream("orders")
    await stream.purge(before=4)
    async with following(call, Last_Event_ID="1") as follower:
        assert await follower.next() == ("gap", {})
        assert await follower.names(1) == ["d"]
    async with following(call, Last_Event_ID="3") as follower:
        assert await follower.names(1) == ["d"]


async def test_a_stream_that_was_made_anew(kit, call):
    """It counts from 1 again: an id of the old one is behind its end, and all is new."""
    await _publish(kit, "a", "b", "c")
    await kit.jetstream.delete_stream("orders")
    await make_streams(kit, OrderPlaced)
    async with following(call, Last_Event_ID="3") as follower:
        await _publish(kit, "z")
        assert await follower.next() == ("gap", {})
        assert await follower.names(1) == ["z"]


@pytest.mark.parametrize(
    ("query", "headers", "field"),
    [
        ("?since=soon", {}, "since"),
        ("?since=99999-01-01", {}, "since"),
        ("?since=1&since=2", {}, "since"),
        ("?follow=maybe", {}, "follow"),
        ("?total=1", {}, "total"),
        ("?order_id=" + "x" * 300, {}, "order_id"),
        ("", {"Last-Event-ID": "x"}, "Last-Event-ID"),
        ("", {"Last-Event-ID": "-1"}, "Last-Event-ID"),
        ("", {"Last-Event-ID": "9" * 30}, "Last-Event-ID"),
        ("", {"Last-Event-ID": "1 OR 1=1"}, "Last-Event-ID"),
    ],
    ids=str,
)
async def test_a_request_that_does_not_fit(call, query, headers, field):
    """400, and what is to blame."""
    response, problem = await call("GET", f"{PATH}{query}", headers=EVENTS | headers)
    assert (response.status, problem["field"]) == (400, field)


async def test_a_form_that_there_is_not(call):
    """406, with those that there are."""
    response, problem = await call("GET", PATH, headers={"Accept": "text/html"})
    assert (response.status, problem["field"]) == (406, "Accept")
    assert SSE in problem["detail"]


async def test_head_follows_nothing(call):
    """It tells the type of what a GET would give."""
    response, body = await call("HEAD", PATH, headers=EVENTS)
    assert (response.status, body) == (200, b"")
    assert response.content_type == SSE


@pytest.mark.parametrize(
    "sent", ["hello", b"\x00", '{"order_id": "A2"}', "\N{SNOWMAN}"]
)
async def test_a_websocket_that_sends_to_a_log_is_told_how_to_publish(
    kit: kitmsg.Kit, call: Any, sent: str | bytes
) -> None:
    """Whatever it sends: text, bytes, an event."""
    url = f"ws://127.0.0.1:{call.server.port}{PATH}"
    async with asyncio.timeout(20), connect(url) as socket:
        await socket.send(sent)
        problem = json.loads(await socket.recv())
        await socket.wait_closed()
    assert problem["detail"] == (
        "the log of orders.placed is only read here: send nothing but pings; publish by"
        " POST /events/orders.placed"
    )
    assert socket.close_code == 4400
    assert socket.close_reason == problem["detail"]


async def test_a_websocket_is_not_told_to_publish_what_it_may_not(
    kit: kitmsg.Kit, start: Any
) -> None:
    outside = await start(kit, events=("orders.placed:read",))
    url = f"ws://127.0.0.1:{outside.server.port}{PATH}"
    async with asyncio.timeout(20), connect(url) as socket:
        await socket.send("hello")
        problem = json.loads(await socket.recv())
    assert problem["detail"].endswith("only read here: send nothing but pings")


async def test_a_websocket_has_a_message_for_each_event(kit, call):
    """And nothing is to be sent there."""
    await _publish(kit, "a")
    url = f"ws://127.0.0.1:{call.server.port}{PATH}?since=1"
    async with connect(url) as socket:
        assert json.loads(await socket.recv())["data"]["order_id"] == "a"
        await _publish(kit, "b")
        assert json.loads(await socket.recv())["data"]["order_id"] == "b"
        await socket.send("{}")
        async with asyncio.timeout(10):
            await socket.wait_closed()
        assert socket.close_code == 4400


async def test_payloads_of_all_kinds(kit, call):
    """Stored data that is no JSON goes as bytes; line breaks in JSON are no lines."""
    js = kit.jetstream
    packed = {"Content-Type": "application/msgpack"}
    await js.publish("event.orders.placed.a", b'{\n "order_id": "a"\n}', {CE_ID: "1"})
    await js.publish("event.orders.placed.b", b"\x81\xa1x\x01", packed)
    await js.publish(
        "event.orders.placed.c", b"\xff\x00", {"Content-Type": "image/png"}
    )
    await js.publish("event.orders.placed.d", b"{broken")
    found = await lines(call, "?since=1")
    assert found[0]["data"] == {"order_id": "a"}
    assert found[1]["data"] == {"x": 1}
    assert (found[2]["data_base64"], found[2]["datacontenttype"]) == (
        "/wA=",
        "image/png",
    )
    assert "data_base64" in found[3]
    assert [each["id"] for each in found] == ["1", "2", "3", "4"]
    assert {each["type"] for each in found} == {"orders.placed"}


async def test_many_read_a_log_of_many_pages_whole(kit, call):
    """Old events and new ones, each once and in order, while more are published."""
    await kit.publish_many([OrderPlaced(str(n)) for n in range(1000)])

    async def read() -> list[str]:
        async with following(call, "?since=1") as follower:
            return await follower.names(1500)

    readers = [asyncio.create_task(read()) for _ in range(10)]
    for at in range(1000, 1500, 50):
        await kit.publish_many([OrderPlaced(str(n)) for n in range(at, at + 50)])
        await asyncio.sleep(0)
    for names in await asyncio.gather(*readers):
        assert names == [str(n) for n in range(1500)]


async def test_one_reads_for_all_and_stops_when_nobody_is_left(kit, call, until):
    """A follower that leaves takes nothing along, and the last one ends the reading."""
    async with following(call) as one:
        async with following(call) as other:
            await _publish(kit, "a")
            assert await one.names(1) == await other.names(1) == ["a"]
        await _publish(kit, "b")
        assert await one.names(1) == ["b"]
        assert len(call.server.events._feeds) == 1
    await until(lambda: not call.server.events._feeds)


async def test_a_follower_that_does_not_read_is_dropped(kit, start, until):
    """After `send_timeout`; and others are not held up by it."""
    call = await start(kit, events=("orders.placed",), send_timeout=0.5)
    text = "x" * 20_000
    for number in range(500):
        body = f'{{"order_id": "{number}", "text": "{text}"}}'.encode()
        await kit.jetstream.publish(f"event.orders.placed.{number}", body)
    silent = socket.create_connection(("127.0.0.1", call.server.port))
    try:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        silent.send(f"GET {PATH}?since=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await until(lambda: len(call.server.api.live) == 1)
        async with following(call, "?since=1") as follower:
            assert await follower.names(500) == [str(n) for n in range(500)]
            await until(lambda: len(call.server.api.live) == 1)
    finally:
        silent.close()


async def test_a_log_without_a_stream(kit, call):
    """503 with a sentence, and it is there when the stream is."""
    await kit.jetstream.delete_stream("notes")
    response, problem = await call("GET", "/events/notes", headers=EVENTS)
    assert response.status == 503
    assert "kitmsg streams apply" in problem["detail"]
    await make_streams(kit, Noted)
    await kit.publish(Noted(1, "x"))
    found = await lines(call, "?since=1", "/events/notes")
    assert [each["data"]["number"] for each in found] == [1]


async def test_followers_beyond_the_limit_of_streams(kit, start):
    """429, as for any stream."""
    call = await start(kit, events=("orders.placed",), max_streams=1)
    async with following(call):
        response, problem = await call("GET", PATH, headers=EVENTS)
        assert (response.status, problem["code"]) == (429, "resource_exhausted")


async def test_a_service_that_left_is_not_needed(memory_bus, start, until):
    """Stored events can be read, whether or not anybody is there."""
    async with kitmsg.connect(bus=memory_bus) as kit:
        await make_streams(kit, OrderPlaced)
        orders = await kit.serve(Orders)
        call = await start(kit, events=("orders.placed",))
        await _publish(kit, "a")
        await orders.drain()
        await until(lambda: not call.server.catalogue.found.services)
        (found,) = await lines(call, "?since=1")
        assert found["data"]["order_id"] == "a"
        headers = {"Content-Type": "application/cloudevents+json"}
        sent = json.dumps(event("b")).encode()
        response, _ = await call("POST", PATH, data=sent, headers=headers)
        assert response.status == 202
