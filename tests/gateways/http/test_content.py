"""kitmsg_gateways.http.content: a result in the media type that its client wants."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Annotated, Any

import msgspec
import pytest

from kitmsg import Service, endpoint
from kitmsg.schema import header

JSON, MSGPACK = "application/json", "application/msgpack"
OCTETS = "application/octet-stream"


class Typed(msgspec.Struct):
    """What JSON has no types for."""

    at: dt.datetime
    price: Decimal
    data: bytes


class Files(Service):
    """Keeps files."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    @endpoint(http="PUT /kept/{name}")
    async def put(self, name: str, data: bytes, mode: int = 0) -> str:
        """Keep a file."""
        self.kept[name] = data
        return f"{name}: {len(data)}, {mode}"

    @endpoint(http="POST /turned/{name}")
    async def turn(
        self, name: str, data: bytes, tail: Annotated[str, header("X-Tail")] = ""
    ) -> bytes:
        """Return a file from its end, and more."""
        return data[::-1] + name.encode() + tail.encode()

    @endpoint(http="GET /kept/{name}")
    async def get(self, name: str) -> bytes:
        """Return a file."""
        return self.kept[name]

    @endpoint
    async def size(self, data: bytes) -> int:
        """Return how long it is."""
        return len(data)

    @endpoint(http="POST /two/{name}")
    async def two(self, name: str, one: bytes, other: bytes) -> int:
        """Take two files."""
        return len(one + other)

    @endpoint
    async def said(self, text: str) -> dict[str, Any]:
        """Return many types."""
        return {"text": text, "n": 2**60, "x": [1.5, None, True]}

    @endpoint
    async def typed(self, at: dt.datetime, price: Decimal, data: bytes) -> Typed:
        """Return what it takes."""
        return Typed(at, price, data)


@pytest.fixture
async def call(hub, start):
    """A gateway with the service."""
    await hub.serve(Files())
    return await start(hub)


async def body_of(call: Any, *args: Any, **kwargs: Any) -> tuple[int, str, Any]:
    """Return status, media type and body of an answer."""
    response, body = await call(*args, **kwargs)
    return response.status, response.content_type, body


@pytest.mark.parametrize("accept", [JSON, f"{JSON}, */*;q=0.5", "application/*;q=0.1"])
async def test_who_accepts_json_gets_json_for_msgpack(call, accept):
    """Whatever the request was; who takes both alike gets what the request was."""
    asked = msgspec.msgpack.encode({"text": "a"})
    headers = {"Content-Type": MSGPACK, "Accept": accept}
    response, body = await call("POST", "/files/said", data=asked, headers=headers)
    if accept.startswith(JSON):
        assert response.content_type == JSON
        assert body == {"text": "a", "n": 2**60, "x": [1.5, None, True]}
    else:
        assert response.content_type == MSGPACK


async def test_all_types_are_as_json_has_them(call):
    """A result in JSON is the same whatever the request was encoded in."""
    values = Typed(dt.datetime(2030, 1, 2, tzinfo=dt.UTC), Decimal("1.10"), b"\x00\xff")
    asked = {"Content-Type": JSON, "Accept": JSON}
    _, one = await call(
        "POST", "/files/typed", data=msgspec.json.encode(values), headers=asked
    )
    asked["Content-Type"] = MSGPACK
    _, other = await call(
        "POST", "/files/typed", data=msgspec.msgpack.encode(values), headers=asked
    )
    assert one == other
    assert one["price"] == "1.10"


async def test_who_accepts_json_gets_json_for_bytes(call):
    """A result that is no bytes, and one that is."""
    headers = {"Content-Type": OCTETS, "Accept": JSON}
    _, kind, body = await body_of(
        call, "POST", "/files/size", data=b"\x00\x01", headers=headers
    )
    assert (kind, body) == (JSON, 2)
    _, kind, body = await body_of(
        call, "POST", "/turned/x", data=b"ab", headers=headers
    )
    assert kind == JSON
    assert json.loads(body if isinstance(body, bytes) else json.dumps(body)) == "YmF4"


@pytest.mark.parametrize("data", [b"\x00\xff{", b"", b"a" * 300_000])
async def test_a_raw_body_goes_with_parameters_of_the_path(call, data):
    """By PUT and POST, with a query and with headers; be it empty or long."""
    headers = {"Content-Type": OCTETS, "Accept": JSON}
    _, kind, body = await body_of(
        call, "PUT", "/kept/a.txt?mode=7", data=data, headers=headers
    )
    assert (kind, body) == (JSON, f"a.txt: {len(data)}, 7")
    response, body = await call("GET", "/kept/a.txt")
    assert body == data or (response.status, data) == (204, b"")


async def test_bytes_for_bytes(call):
    """Who sends bytes and is given bytes gets them as they are."""
    headers = {"Content-Type": OCTETS, "X-Tail": "!"}
    response = await body_of(call, "POST", "/turned/x", data=b"ab", headers=headers)
    assert response == (200, OCTETS, b"bax!")


async def test_bytes_that_nobody_can_place_are_refused(call):
    """The answer says why."""
    headers = {"Content-Type": OCTETS}
    response, body = await call("POST", "/two/x", data=b"ab", headers=headers)
    assert response.status == 400
    assert "several: one, other" in body["detail"]
    response, body = await call(
        "POST", "/files/said?text=x", data=b"ab", headers=headers
    )
    assert response.status == 400
    assert "none here" in body["detail"]


async def test_bytes_are_not_stored_unless_the_endpoint_says_so(call):
    """As any other answer without ``cache``; the tag is for parts."""
    await call("PUT", "/kept/a", data=b"abc", headers={"Content-Type": OCTETS})
    response, _ = await call("GET", "/kept/a")
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["ETag"]


async def test_the_document_says_where_plain_bytes_go_and_come(call):
    """Where the one parameter of bytes is all that is left for the body, and for results."""
    _, document = await call("GET", "/openapi.json")

    def spoken(path: str, method: str) -> tuple[bool, bool]:
        operation = document["paths"][path][method]
        body = operation.get("requestBody", {"content": {}})["content"]
        return OCTETS in body, OCTETS in operation["responses"]["200"]["content"]

    assert spoken("/kept/{name}", "put") == (True, False)
    assert spoken("/kept/{name}", "get") == (False, True)
    assert spoken("/turned/{name}", "post") == (True, True)
    assert spoken("/files/size", "post") == (True, False)
    assert spoken("/files/put", "post") == (False, False)  # the name is in the body
    assert spoken("/two/{name}", "post") == (False, False)
