"""Replies of foreign services, and what a class says of itself: passed on as they are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import kitmsg
from kitmsg import Service, endpoint
from kitmsg.message import Message, encode_headers

if TYPE_CHECKING:
    from kitmsg.bus import Bus


class Old(Service):
    """Speaks as Go kit does."""

    @endpoint(wire="gokit")
    async def sum(self, a: int, b: int) -> int:
        if not a:
            raise ValueError("never shown")
        if not b:
            raise kitmsg.errors.InvalidArgument("b is zero")
        return a + b


async def test_gokit_errors_are_errors(hub, start):
    """`{"err": text}` is not passed off as a success; it is told as Go kit's examples do."""
    await hub.serve(Old())
    call = await start(hub)
    assert (await call("POST", "/old/sum", json={"a": 1, "b": 2}))[1] == {"v": 3}
    response, body = await call("POST", "/old/sum", json={"a": 1, "b": 0})
    assert (response.status, body) == (400, {"error": "b is zero"})


def answer(
    bus: Bus, subject: str, data: bytes, headers: dict[str, str] | None = None
) -> list[Message]:
    """Serve a fixed reply on a subject; returns the requests that came."""
    came: list[Message] = []

    def reply(message: Message) -> None:
        came.append(message)
        bus.publish(message.reply, data, "", encode_headers(headers or {}))

    bus.subscribe(subject, reply)
    return came


@pytest.mark.parametrize(
    ("data", "headers", "status", "kind"),
    [
        (b'{"a":1}', {}, 200, "application/json"),
        (b"5", {}, 200, "application/json"),
        (b"hello", {}, 200, "application/octet-stream"),
        (b"\xff\x00", {}, 200, "application/octet-stream"),
        (b"", {}, 204, None),
        (b"", {"Content-Type": "text/plain"}, 204, None),
        (b"<p>", {"Content-Type": "text/plain; charset=utf-8"}, 200, "text/plain"),
        (b"x", {"Content-Type": "what\x01ever"}, 200, "application/octet-stream"),
    ],
)
async def test_a_foreign_reply_is_passed_back(
    memory_bus, start, foreign, data, headers, status, kind
):
    """As JSON when it is JSON, as its header says, else as bytes."""
    foreign("far", "far.do")
    came = answer(memory_bus, "far.do", data, headers)
    call = await start(memory_bus)
    body = b'{"x": 1 }'
    response, _ = await call(
        "POST", "/far/do", data=body, headers={"Content-Type": "application/json"}
    )
    assert response.status == status
    assert response.headers.get("Content-Type", "").partition(";")[0] == (kind or "")
    assert came[0].data == body


async def test_a_foreign_error_shows_no_exception(memory_bus, start, foreign, caplog):
    """A 500 of a plain micro service is often the text of an exception: it is logged."""
    foreign("far", "far.do")
    headers = {
        "Nats-Service-Error": "KeyError('secret')",
        "Nats-Service-Error-Code": "500",
    }
    answer(memory_bus, "far.do", b"", headers)
    call = await start(memory_bus)
    response, body = await call("POST", "/far/do")
    assert response.status == 500
    assert "secret" not in json.dumps(body)
    assert "secret" in caplog.text


async def test_a_foreign_refusal_is_passed_on(memory_bus, start, foreign):
    """A 4xx of a plain micro service is meant for the caller."""
    foreign("far", "far.do")
    headers = {"Nats-Service-Error": "no such thing", "Nats-Service-Error-Code": "404"}
    answer(memory_bus, "far.do", b'{"id": 7}', headers)
    call = await start(memory_bus)
    response, body = await call("POST", "/far/do")
    assert (response.status, body["detail"]) == (404, "no such thing")
    assert body["details"] == {"id": 7}


class Numbers(Service):
    """Another class, by the name of `Words`."""

    name = "words"

    @endpoint
    async def say(self, number: int) -> str:
        return f"number {number}"


class Words(Service):
    """Says words."""

    @endpoint
    async def say(self, word: str) -> str:
        return f"word {word}"


async def test_calls_go_only_to_the_class_whose_schema_is_shown(hub, start):
    """Where two classes of one name and version are on the bus, none gets the other's."""
    await hub.serve(Words())
    await kitmsg.Kit(hub.bus).serve(Numbers())
    call = await start(hub)
    _, document = await call("GET", "/openapi.json")
    is_words = '"word"' in json.dumps(document)  # the name of its one field
    sent, said = [({"number": 7}, "number 7"), ({"word": "a"}, "word a")][is_words]
    for _ in range(8):
        response, body = await call("POST", "/words/say", json=sent)
        assert (response.status, body) == (200, said)
