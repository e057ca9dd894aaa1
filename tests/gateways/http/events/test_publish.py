"""``POST /events/{name}``: CloudEvents in, and the stream's word out."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

import kitmsg
from kitmsg.bus.embedded import EmbeddedServer
from tests.gateways.http.events.conftest import (
    Mailer,
    Noted,
    OrderPlaced,
    Orders,
    event,
    make_streams,
)

if TYPE_CHECKING:
    from kitmsg import Kit

BINARY = {
    "ce-specversion": "1.0",
    "ce-id": "b1",
    "ce-source": "/till/1",
    "ce-type": "orders.placed",
    "Content-Type": "application/json",
}


async def _logged(kit: Kit, cls: type[Any] = OrderPlaced) -> list[Any]:
    return [each async for each in kit.events(cls)]


async def test_an_event_is_stored_and_reaches_who_subscribes(kit, post, until):
    """202, when the stream has it, with its number there."""
    mailer = Mailer()
    await kit.serve(mailer)
    response, told = await post(event("A1"))
    assert response.status == 202
    assert told == {"sequence": 1, "duplicate": False}
    await until(lambda: mailer.got)
    assert mailer.got == [OrderPlaced("A1", Decimal("9.50"))]
    headers = mailer.headers[0]
    assert headers["ce-id"] == "id-A1"
    assert headers["ce-source"] == "/till/1"
    assert headers["ce-type"] == "orders.placed"
    assert headers["Kit-Request-Id"] == response.headers["X-Request-Id"]


async def test_events_of_the_cloudevents_package(kit, call):
    """A peer's structured and binary messages, with an extension."""
    attributes = {
        "type": "orders.placed",
        "source": "https://till.example/1",
        "id": "peer-1",
        "time": datetime(2026, 11, 28, 12, tzinfo=UTC),
        "datacontenttype": "application/json",
        "till": "Zürich 1",
    }
    for number, make in enumerate((to_structured_event, to_binary_event)):
        facts = attributes | {"id": f"peer-{number}"}
        message = make(CloudEvent(facts, {"order_id": f"P{number}", "total": "3"}))
        response, told = await call(
            "POST", "/events/orders.placed", data=message.body, headers=message.headers
        )
        assert response.status == 202, told
    assert await _logged(kit) == [
        OrderPlaced("P0", Decimal(3)),
        OrderPlaced("P1", Decimal(3)),
    ]
    stream = await kit.jetstream.stream("orders")
    for sequence in (1, 2):
        stored = await stream.get(sequence)
        assert stored.headers["ce-time"].startswith("2026-11-28T12:00:00")
        assert stored.headers["ce-till"] == "Z%C3%BCrich%201"


async def test_a_batch_is_stored_in_its_order(kit, post):
    """The answer has a number for each."""
    response, told = await post([event(name) for name in "abc"])
    assert response.status == 202
    assert [each["sequence"] for each in told] == [1, 2, 3]
    assert [each.order_id for each in await _logged(kit)] == ["a", "b", "c"]
    response, told = await post([])
    assert (response.status, told) == (202, [])


async def test_an_event_that_is_sent_again_is_stored_once(kit, post):
    """Its id says so: a client that heard nothing may just try again."""
    await post(event("A1"))
    response, told = await post(event("A1"))
    assert response.status == 202
    assert told == {"sequence": 1, "duplicate": True}
    response, told = await post([event("A1"), event("A2")])
    assert [each["duplicate"] for each in told] == [True, False]
    assert len(await _logged(kit)) == 2


async def test_an_id_that_another_source_has_used(kit, post):
    """409: a stream takes both for one event, and the second must not just vanish."""
    await post(event("A1"))
    response, problem = await post(event("A1", source="/till/2"))
    assert response.status == 409
    assert "another source" in problem["detail"]


MALFORMED = [
    (event(id=""), "id"),
    (event(id="a b"), "id"),
    (event(id="x" * 257), "id"),
    (event(id=7.5), "id"),
    (event(id=7), "id"),
    (event(id=None), "id"),
    (event(source=""), "source"),
    (event(source="a\nNats-Rollup: all"), "source"),
    (event(type="orders.shipped"), "type"),
    (event(specversion="0.3"), "specversion"),
    (event(specversion=1), "specversion"),
    (event(subject=True), "subject"),
    (event(time="yesterday"), "time"),
    (event(time="2026-11-28T12:00:00"), "time"),
    (event(datacontenttype="text/xml"), "datacontenttype"),
    (event(dataschema="kit:orders.placed:2:abc"), "dataschema"),
    (event(data=[1]), "data"),
    (event(data={"total": "1"}), "data.order_id"),
    (event(data={"order_id": 7}), "data.order_id"),
    (event(data={"order_id": "a", "total": "dear"}), "data.total"),
    (event(data={"order_id": "x" * 300}), "data.order_id"),
    (event(data_base64="e30="), "data_base64"),
    (event(Big="x"), "Big"),
    (event(**{"bad-name": "x"}), "bad-name"),
    (event(extra={"a": 1}), "extra"),
    (event(extra="x" * 5000), "extra"),
]


@pytest.mark.parametrize(("given", "field"), MALFORMED, ids=lambda v: str(v)[:40])
async def test_what_is_malformed_is_refused_by_its_field(kit, post, given, field):
    """400, nothing is stored; in a batch the place is told, and nothing of it is stored."""
    response, problem = await post(given)
    assert (response.status, problem["field"]) == (400, field)
    response, problem = await post([event("fine"), given])
    assert (response.status, problem["field"]) == (400, f"[1].{field}")
    assert await _logged(kit) == []


@pytest.mark.parametrize("body", [b"", b"[", b"7", b"[]", b"{" * 100_000, b"\xff{}"])
async def test_bodies_that_are_no_event(post, body):
    """400, whatever they are."""
    response, problem = await post(body)
    assert response.status == 400
    assert problem["detail"]


async def test_binary_events_that_are_malformed(call):
    """A header that is missing or came twice is named; so is a body that is no JSON."""
    path = "/events/orders.placed"
    for left_out in ("ce-id", "ce-source", "ce-type", "ce-specversion"):
        headers = {n: v for n, v in BINARY.items() if n != left_out}
        response, problem = await call("POST", path, data=b"{}", headers=headers)
        assert response.status == 400
        assert problem["field"].removeprefix("ce-") == left_out.removeprefix("ce-")
    twice = [*BINARY.items(), ("ce-id", "b2")]
    response, problem = await call("POST", path, data=b"{}", headers=twice)
    assert (response.status, problem["field"]) == (400, "ce-id")
    response, problem = await call("POST", path, data=b"{", headers=BINARY)
    assert (response.status, problem["field"]) == (400, "data")


async def test_formats_that_are_not_understood(call):
    """415: XML as data, CloudEvents in Avro."""
    for kind in ("text/xml", "application/cloudevents+avro"):
        headers = BINARY | {"Content-Type": kind}
        path = "/events/orders.placed"
        response, problem = await call("POST", path, data=b"x", headers=headers)
        assert (response.status, problem["field"]) == (415, "Content-Type")


HOSTILE = ["a.b", "*", ">", "a b", "", "ü", "%", "a\r\nX: y", "event.orders.>"]


async def test_hostile_values_stay_in_their_place(kit, post):
    """A field's value never leads to another subject, and comes back as it was."""
    events = [event(f"{n}", data={"order_id": v}) for n, v in enumerate(HOSTILE)]
    response, _ = await post(events)
    assert response.status == 202
    assert [each.order_id for each in await _logged(kit)] == HOSTILE
    stream = await kit.jetstream.stream("orders")
    subjects = await stream.subjects()
    assert all(len(each.split(".")) == 4 for each in subjects)
    assert len(subjects) == len(HOSTILE)


@pytest.mark.parametrize("version", ["²", "1" * 5000, "", "-1", "x"])
async def test_schemas_that_are_not_ours_are_passed_over(kit, post, version):
    """Whatever a ``dataschema`` looks like; the gateway says which schema it checked."""
    sent = event(dataschema=f"kit:orders.placed:{version}:abc")
    assert (await post(sent))[0].status == 202
    stored = await (await kit.jetstream.stream("orders")).get(1)
    assert stored.headers["ce-dataschema"].startswith("kit:orders.placed:1:")


async def test_a_value_has_one_form_in_a_subject(kit, post):
    """A UUID in capital letters is the same one, and so the same subject."""
    parcel = "0B5D9D6E-8C51-4B9B-9C55-0D8A7B6E1F00"
    sent = event(type="orders.shipped", data={"parcel": parcel})
    response, _ = await post(sent, "orders.shipped")
    assert response.status == 202
    stream = await kit.jetstream.stream("orders")
    assert await stream.subjects() == {f"event.orders.shipped.{parcel.lower()}": 1}


async def test_a_full_stream(kit, post):
    """429, and nothing that is stored is lost."""
    notes = [
        event(type="notes", id=f"n{n}", data={"number": n, "text": "x"})
        for n in range(3)
    ]
    for note in notes[:2]:
        assert (await post(note, "notes"))[0].status == 202
    response, problem = await post(notes[2], "notes")
    assert (response.status, problem["code"]) == (429, "resource_exhausted")
    assert [each.number for each in await _logged(kit, Noted)] == [0, 1]


async def test_a_stream_that_is_missing(kit, post):
    """503, with what there is to do in the gateway's log."""
    await kit.jetstream.delete_stream("notes")
    sent = event(type="notes", data={"number": 1})
    response, problem = await post(sent, "notes", headers={"Request-Timeout": "2"})
    assert response.status == 503
    assert "Retry-After" in response.headers
    assert "notes" in problem["detail"]


async def test_an_event_that_is_too_long_for_the_bus(kit, start):
    """400 names its data, or 413 where the body may not be so long."""
    call = await start(kit, events=("orders.placed",), max_body_bytes=8 << 20)
    data = {"order_id": "A1", "text": "x" * (kit.bus.max_payload - 500)}
    headers = {"Content-Type": "application/cloudevents+json"}
    body = json.dumps(event(data=data)).encode()
    path = "/events/orders.placed"
    response, problem = await call("POST", path, data=body, headers=headers)
    assert (response.status, problem["field"]) == (400, "data")
    small = await start(kit, events=("orders.placed",), max_body_bytes=1000)
    response, _ = await small("POST", path, data=body, headers=headers)
    assert response.status == 413


async def test_a_deadline_that_is_none(post):
    """400, as for any call."""
    response, problem = await post(event(), headers={"Request-Timeout": "nonsense"})
    assert (response.status, problem["field"]) == (400, "Request-Timeout")


async def test_a_stream_that_says_nothing(start):
    """504 in the client's time; sent again, it is stored once."""
    with EmbeddedServer() as server:
        async with kitmsg.connect(server.url, makes_streams=True) as kit:
            await make_streams(kit, OrderPlaced)
            await kit.serve(Orders)
            call = await start(kit, events=("orders.placed",))
            headers = {"Content-Type": "application/cloudevents+json"}
            body = json.dumps(event("A1"))
            path = "/events/orders.placed"
            server.pause()
            response, problem = await call(
                "POST", path, data=body, headers=headers | {"Request-Timeout": "0.2"}
            )
            server.resume()
            assert response.status == 504
            assert "the same id" in problem["detail"]
            response, _ = await call("POST", path, data=body, headers=headers)
            assert response.status == 202
            assert len(await _logged(kit)) == 1
