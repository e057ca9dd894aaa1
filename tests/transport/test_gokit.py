"""Go kit's NATS transport, byte for byte, in both directions."""
# the services here are props

from __future__ import annotations

import datetime  # noqa: TC003  # msgspec reads it
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from kitmsg import BusinessError, Kit, Service, endpoint
from kitmsg.errors import (
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NoResponders,
    Unknown,
)
from kitmsg.message import encode_headers

if TYPE_CHECKING:
    from kitmsg.message import Message


class EmptyString(BusinessError):
    """empty string"""  # noqa: D415  # Go's own words


class Silent(Exception):
    """An error without a text."""


class Part(msgspec.Struct):
    """One part of a request."""

    name: str
    size: int = 5


class Everything(msgspec.Struct):
    """A field of each kind."""

    count: int
    ratio: float
    text: str
    flag: bool
    blob: bytes
    items: list[int]
    table: dict[str, int]
    at: datetime.datetime
    part: Part
    maybe: int | None
    parts: list[Part] = []


class Pair(msgspec.Struct):
    """A response with fields, capitalised as Go does without tags."""

    first: str = msgspec.field(name="First")
    second: int = msgspec.field(name="Second")


class Stringsvc(Service):
    """Go kit's stringsvc."""

    @endpoint(wire="gokit", raises=[EmptyString, Silent])
    async def uppercase(self, s: str) -> str:
        if not s:
            raise EmptyString
        if s == "bug":
            raise ValueError("hunter2")
        if s == "silent":
            raise Silent
        return s.upper()

    @endpoint(wire="gokit")
    async def sum(self, a: int, b: int) -> int:
        return a + b

    @endpoint(wire="gokit")
    async def everything(self, request: Everything) -> Everything:
        return request

    @endpoint(wire="gokit")
    async def pair(self) -> Pair:
        return Pair("one", 2)

    @endpoint(wire="gokit")
    async def nothing(self) -> None:
        return None

    @endpoint(wire="gokit", subject="legacy.len", timeout=1.0)
    async def count(self, s: str) -> int:
        return len(s)


async def ask(kit: Kit, subject: str, body: bytes) -> Message:
    """Ask as a Go kit publisher does: a bare body, no headers."""
    return await kit.bus.request(subject, body, 5.0)


@pytest.mark.parametrize(
    ("subject", "body", "reply"),
    [
        ("stringsvc.uppercase", b'{"s":"hello"}', b'{"v":"HELLO"}'),
        ("stringsvc.sum", b'{"a":1,"b":2}', b'{"v":3}'),
        ("stringsvc.sum", b'{"A":1,"B":2}', b'{"v":3}'),
        ("stringsvc.sum", b'{"A":1,"extra":[{}]}', b'{"v":1}'),
        ("stringsvc.sum", b"{}", b'{"v":0}'),
        ("stringsvc.sum", b"null", b'{"v":0}'),
        ("stringsvc.sum", b'{"a":null,"b":2}', b'{"v":2}'),
        ("stringsvc.sum", b'{"a":1,"A":5,"b":2}', b'{"v":3}'),
        ("stringsvc.pair", b"{}", b'{"First":"one","Second":2}'),
        ("stringsvc.nothing", b"null", b'{"v":null}'),
        ("legacy.len", b'{"S":"four"}', b'{"v":4}'),
        ("stringsvc.uppercase", b'{"s":""}', b'{"err":"empty string"}'),
        ("stringsvc.uppercase", b"{}", b'{"err":"empty string"}'),
        ("stringsvc.uppercase", b'{"s":"silent"}', b'{"err":"Silent"}'),
    ],
)
async def test_serves_a_go_kit_publisher(
    kit: Kit, subject: str, body: bytes, reply: bytes
) -> None:
    """Bare JSON in and out, keys in any case, missing ones zero, and not one header."""
    await kit.serve(Stringsvc())
    got = await ask(kit, subject, body)
    assert got.data == reply
    assert got.header_block == b""


async def test_zero_values_of_every_kind(kit: Kit) -> None:
    """What a Go program leaves out is what Go would read there."""
    await kit.serve(Stringsvc())
    got = await ask(kit, "stringsvc.everything", b'{"Parts":[{"NAME":"x"}, null]}')
    assert msgspec.json.decode(got.data) == {
        "count": 0,
        "ratio": 0.0,
        "text": "",
        "flag": False,
        "blob": "",
        "items": [],
        "table": {},
        "at": "0001-01-01T00:00:00Z",
        "part": {"name": "", "size": 5},
        "maybe": None,
        "parts": [{"name": "x", "size": 5}, {"name": "", "size": 5}],
    }


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"a":"one"}', "field 'a': expected int, got str"),
        (b'{"a":9223372036854775808}', "field 'a': expected a 64-bit integer"),
        (b'{"a":1.5}', "field 'a': expected int, got float"),
        (b'{"a":1} x', "the body is not valid json"),
        (b"[]", "expected object, got array"),
        (b"{", "the body is not valid json"),
    ],
)
async def test_bad_requests_are_errors_in_the_body(
    kit: Kit, body: bytes, text: str
) -> None:
    """A request that does not fit gets ``{"err": ...}`` with one key, and is counted."""
    host = await kit.serve(Stringsvc())
    got = await ask(kit, "stringsvc.sum", body)
    (key,) = said = msgspec.json.decode(got.data)
    assert key == "err"
    assert text in said["err"]
    assert got.header_block == b""
    assert host.snapshots()["stringsvc.sum"].invalid == 1


async def test_a_caller_with_headers_learns_the_code(kit: Kit) -> None:
    """A gateway needs it; Go kit's publishers send no headers and get none."""
    await kit.serve(Stringsvc())
    block = encode_headers({"Kit-Request-Id": "r1"})
    got = await kit.bus.request("stringsvc.sum", b"[]", 1.0, block)
    assert list(msgspec.json.decode(got.data)) == ["err"]
    assert got.headers["Kit-Code"] == "invalid_argument"
    assert got.headers["Nats-Service-Error-Code"] == "400"
    with pytest.raises(InvalidArgument):
        await kit.client(Stringsvc).sum("x", 1)  # type: ignore[arg-type]
    got = await kit.bus.request("stringsvc.uppercase", b'{"s":"bug"}', 1.0, block)
    assert got.headers["Kit-Code"] == "internal"
    assert b"hunter2" not in got.data + got.header_block


async def test_an_internal_error_says_only_its_id(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    """The text is in the log under that id."""
    await kit.serve(Stringsvc())
    got = await ask(kit, "stringsvc.uppercase", b'{"s":"bug"}')
    assert b"hunter2" not in got.data + got.header_block
    (record,) = [r for r in caplog.records if r.name == "kitmsg.service"]
    request_id = record.request_id  # type: ignore[attr-defined]
    said = {"err": f"internal error (request id {request_id})"}
    assert msgspec.json.decode(got.data) == said


async def test_info_says_the_wire(kit: Kit) -> None:
    """Discovery tells that an endpoint speaks Go kit's way."""
    host = await kit.serve(Stringsvc())
    assert {e.metadata["kit.wire"] for e in host.info.endpoints if e.metadata} == {
        "gokit"
    }


def subscribe(kit: Kit, subject: str, reply: bytes) -> list[bytes]:
    """Serve `subject` as a Go kit subscriber would; return the bodies it got."""
    bodies: list[bytes] = []

    def handle(message: Message) -> None:
        bodies.append(message.data)
        kit.bus.publish(message.reply, reply)

    kit.bus.subscribe(subject, handle, "stringsvc")
    return bodies


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (b'{"v":"HELLO"}', "HELLO"),
        (b'{"V":"HELLO"}', "HELLO"),
        (b'{"v":"HELLO","err":""}', "HELLO"),
        (b'{"v":"say \\"err\\""}', 'say "err"'),
        (b'"HELLO"', "HELLO"),
        (b"{}", ""),
    ],
)
async def test_calls_a_go_kit_subscriber(kit: Kit, reply: bytes, expected: str) -> None:
    """The typed client sends the bare request and reads the bare result."""
    bodies = subscribe(kit, "stringsvc.uppercase", reply)
    assert await kit.client(Stringsvc).uppercase("hello") == expected
    assert bodies == [b'{"s":"hello"}']


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (b'{"err":"empty string"}', "empty string"),
        (b'{"v":"","err":"empty string"}', "empty string"),
        (b'{"Err":"empty string"}', "empty string"),
    ],
)
async def test_a_text_under_err_is_a_failure(kit: Kit, reply: bytes, text: str) -> None:
    """What Go kit's example clients lose is an error here."""
    subscribe(kit, "stringsvc.uppercase", reply)
    with pytest.raises(Unknown, match=text):
        await kit.client(Stringsvc).uppercase("")


@pytest.mark.parametrize(
    ("name", "arguments", "body", "reply", "expected"),
    [
        ("sum", (1, 2), b'{"a":1,"b":2}', b'{"v":3}', 3),
        ("sum", (1, 2), b'{"a":1,"b":2}', b"{}", 0),
        ("nothing", (), b"{}", b"null", None),
        ("nothing", (), b"{}", b"{}", None),
        ("pair", (), b"{}", b'{"FIRST":"x","more":1}', Pair("x", 0)),
    ],
)
async def test_other_results(
    kit: Kit,
    name: str,
    arguments: tuple[Any, ...],
    body: bytes,
    reply: bytes,
    expected: Any,
) -> None:
    """Numbers, nothing, and objects with keys in Go's case."""
    bodies = subscribe(kit, f"stringsvc.{name}", reply)
    assert await getattr(kit.client(Stringsvc), name)(*arguments) == expected
    assert bodies == [body]


@pytest.mark.parametrize("reply", [b"{", b'{"v":"three"}', b"[]", b"\xff"])
async def test_a_reply_that_does_not_fit(kit: Kit, reply: bytes) -> None:
    """That is `DataLoss`, naming the endpoint."""
    subscribe(kit, "stringsvc.sum", reply)
    with pytest.raises(DataLoss, match="stringsvc.sum"):
        await kit.client(Stringsvc).sum(1, 2)


async def test_deadline_and_no_responders(kit: Kit) -> None:
    """The promises of a call hold here too."""
    client = kit.client(Stringsvc)
    with pytest.raises(NoResponders):
        await client.count("x")
    kit.bus.subscribe("legacy.len", lambda _: None)
    with pytest.raises(DeadlineExceeded):
        await client.count("x")


async def test_both_ends_are_ours(kit: Kit) -> None:
    """A kitmsg client and a kitmsg service talk Go kit's way to each other."""
    await kit.serve(Stringsvc())
    client = kit.client(Stringsvc)
    assert await client.uppercase("hi") == "HI"
    assert await client.pair() == Pair("one", 2)
    with pytest.raises(FailedPrecondition, match="empty string"):
        await client.uppercase("")
    with pytest.raises(InvalidArgument, match="expected int"):
        await client.sum("one", 2)  # type: ignore[arg-type]
