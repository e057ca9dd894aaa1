"""Server-sent events: what they look like, how they resume, and a client not ours."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from httpx_sse import aconnect_sse

from kitmsg_gateways.http.streams.formats import SSE, Sse

EVENTS = {"Accept": SSE}


async def events(call: Any, path: str, last: str = "", **options: Any) -> list[Any]:
    """Return the events of a stream, by a library that is not ours."""
    headers = {"Last-Event-ID": last} if last else {}
    async with (
        httpx.AsyncClient(base_url=call.server.url) as client,
        aconnect_sse(client, "GET", path, headers=headers, **options) as source,
    ):
        return [event async for event in source.aiter_sse()]


async def test_an_event_for_each_item(read):
    """With ids from 1, when to come back, and a word at the end."""
    response, body = await read("GET", "/count/2", headers=EVENTS)
    assert response.headers["Content-Type"] == SSE
    assert response.headers["Cache-Control"] == "no-store"
    assert body == (
        b"retry: 2000\nid: 1\ndata: 0\n\nid: 2\ndata: 1\n\nevent: end\ndata: {}\n\n"
    )


async def test_a_client_library_reads_them(call):
    """Items, ids and the end."""
    *items, end = await events(call, "/lines")
    assert [json.loads(event.data) for event in items] == ["two\nlines", "ünïcode"]
    assert [event.id for event in items] == ["1", "2"]
    assert [event.event for event in (*items, end)] == ["message", "message", "end"]


async def test_it_resumes_by_number(call):
    """The endpoint gets the last number seen, and numbers go on from there."""
    *items, _ = await events(call, "/log", last="3")
    assert [(e.id, json.loads(e.data)) for e in items] == [
        ("4", "line 4"),
        ("5", "line 5"),
    ]


async def test_it_resumes_by_the_ids_of_the_items(call):
    """Where items have an ``id`` of their own, that is the event's."""
    *items, _ = await events(call, "/events", last="b")
    assert [(e.id, json.loads(e.data)["text"]) for e in items] == [
        ("c", "the c"),
        ("d", "the d"),
    ]


async def test_numbers_begin_anew_where_the_endpoint_cannot_resume(call):
    """They count what is sent, and nothing was left out."""
    *items, _ = await events(call, "/count/2", last="7")
    assert [event.id for event in items] == ["1", "2"]


async def test_an_error_is_an_event(call):
    """Its data is the problem, after the items before it."""
    *items, last = await events(call, "/feed/fail?after=2&typed=true")
    assert [event.data for event in items] == ["0", "1"]
    assert last.event == "error"
    problem = json.loads(last.data)
    assert (problem["status"], problem["error"]) == (409, "SoldOut")


async def test_an_error_at_once_is_the_answers_status(call, monkeypatch):
    """So that a browser does not come back to what cannot be."""
    monkeypatch.setattr("kitmsg_gateways.http.streams.serve.GRACE_SECONDS", 5.0)
    response, problem = await call("GET", "/feed/fail", headers=EVENTS)
    assert response.status == 404
    assert problem["detail"] == "no such thing"


async def test_a_stream_where_nothing_happens_shows_that_it_lives(
    hub, feed, start, until
):
    """Comments come, which clients pass over; and the items after them."""
    call = await start(hub, stream_heartbeat=0.05)
    async with call.session.get("/wait?items=1", headers=EVENTS) as response:
        seen = b""
        while seen.count(b"\n:\n") < 2:
            seen += await response.content.readline()
        feed.go_on.set()
        seen += await response.content.read()
    assert seen.startswith(b"retry: 2000\nid: 1\ndata: 0\n\n")
    assert seen.endswith(b"event: end\ndata: {}\n\n")


async def test_the_headers_come_before_the_first_item(call, feed):
    """A page knows that it is connected, though nothing happens."""
    async with call.session.get("/wait", headers=EVENTS) as response:
        assert response.status == 200
        assert await response.content.readline() == b"retry: 2000\n"


async def test_a_gateway_that_stops_tells_when_to_come_back(call, feed, nothing_left):
    """The stream ends as it should, before the gateway's time is up."""
    async with call.session.get("/wait?items=1", headers=EVENTS) as response:
        assert await response.content.readuntil(b"data: 0\n\n")
        stopping = asyncio.create_task(call.server.stop())
        last = await response.content.read()
        await stopping
    assert last.startswith(b"retry: ")
    assert 500 <= int(last.split()[1]) <= 2000
    await asyncio.wait_for(feed.ended.wait(), 5)
    await nothing_left()


@pytest.mark.parametrize("name", ["a b", "ü", "x:y"])
def test_an_id_of_an_item_may_hold_anything_but_line_breaks(name):
    """It is written as it is."""
    assert (
        form_with_ids()
        .item(json.dumps({"id": name}).encode())
        .startswith(f"id: {name}\n".encode())
    )


@pytest.mark.parametrize("item", [{"id": "a\nb"}, {"id": None}, {"id": 1.5}, {}, [1]])
def test_an_item_without_a_fit_id_is_numbered(item):
    """An id that would break the event is none."""
    assert form_with_ids().item(json.dumps(item).encode()).startswith(b"id: 1\n")


def form_with_ids() -> Sse:
    """Return the form for items that have ids."""
    item = {"type": "object", "properties": {"id": {"type": "string"}}}
    mounted = SimpleNamespace(
        schema={"response": item}, parameters=SimpleNamespace(headers={})
    )
    opening: Any = SimpleNamespace(mounted=mounted)
    return Sse(opening)


def test_an_item_of_many_lines_is_one_event():
    """As a foreign service may send it."""
    assert form_with_ids().item(b'{\n"id": "x"\r\n}') == (
        b'id: x\ndata: {\ndata: "id": "x"\ndata: }\n\n'
    )
