"""Typed requests and responses: every codec, and every bad input through a real endpoint."""
# the service here is a prop

from __future__ import annotations

import datetime
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgpack
import msgspec
import pytest

from kitmsg import Kit, Service, endpoint
from kitmsg.errors import DataLoss, InvalidArgument
from kitmsg.message import Message, encode_headers
from kitmsg.wire import plain_headers

if TYPE_CHECKING:
    from collections.abc import Callable

JSON = "application/json"
MSGPACK = "application/msgpack"
RAW = "application/octet-stream"


@dataclass
class Line:
    """One line of an order."""

    sku: str
    count: int = 1


class Shop(Service):
    """Takes orders."""

    @endpoint
    async def order(
        self, lines: list[Line], price: float = 0.0, note: str = ""
    ) -> dict[str, int]:
        return {line.sku: line.count for line in lines}

    @endpoint
    async def blob(self, data: bytes) -> bytes:
        return data[::-1]

    @endpoint
    async def when(self) -> datetime.date:
        return datetime.date(2026, 1, 2)


@pytest.fixture
async def shop(kit: Kit) -> Kit:
    await kit.serve(Shop())
    return kit


async def ask(
    kit: Kit, data: bytes, name: str = "order", *, block: bytes = b"", **headers: str
) -> Message:
    fields = encode_headers({k.replace("_", "-"): v for k, v in headers.items()})
    return await kit.bus.request(f"shop.{name}", data, 5.0, block or fields)


GOOD = {"lines": [{"sku": "ball", "count": 2}]}


@pytest.mark.parametrize("said", [True, False])
@pytest.mark.parametrize(
    ("content_type", "pack", "unpack"),
    [
        (JSON, msgspec.json.encode, msgspec.json.decode),
        (MSGPACK, msgpack.packb, msgpack.unpackb),
    ],
)
async def test_answers_in_the_codec_of_the_request(
    shop: Kit,
    said: bool,
    content_type: str,
    pack: Callable[[Any], bytes],
    unpack: Callable[[bytes], Any],
) -> None:
    """JSON is answered in JSON, msgpack in msgpack, whether named or sniffed."""
    headers: dict[str, Any] = {"Content_Type": content_type} if said else {}
    reply = await ask(shop, pack(GOOD), **headers)
    assert unpack(reply.data) == {"ball": 2}


async def test_raw_bytes(shop: Kit) -> None:
    """An endpoint of bytes takes and gives them bare, if told so."""
    assert (await ask(shop, b"\xffabc", "blob", Content_Type=RAW)).data == b"cba\xff"


async def test_an_empty_body_is_an_empty_request(shop: Kit) -> None:
    """An endpoint without required parameters needs no body."""
    assert (await ask(shop, b"", "when")).data == b'"2026-01-02"'
    assert (await ask(shop, b"", "when", block=plain_headers(1000))).data


def _nested(depth: int) -> bytes:
    return b'{"lines":' + b"[" * depth + b"]" * depth + b"}"


BAD: dict[str, tuple[bytes, dict[str, Any], str, str]] = {
    # name: (body, headers, field, part of the text)
    "not a map": (b"\xc1\x00\xff", {}, "", "must be a JSON object or a msgpack map"),
    "truncated msgpack": (msgpack.packb(GOOD)[:-3], {}, "", "not valid msgpack"),
    "truncated json": (b'{"lines":[', {}, "", "not valid json"),
    "trailing data": (b'{"lines":[]} x', {}, "", "not valid json"),
    "100 deep json": (_nested(100), {}, "lines[0]", "expected object, got array"),
    "5000 deep json": (_nested(5000), {}, "lines[0]", "expected object"),
    "deep unknown": (
        b'{"lines":[],"x":' + b"[" * 5000 + b"]" * 5000 + b"}",
        {},
        "",
        "",
    ),
    "wrong type": (b'{"lines":[{"sku":5}]}', {}, "lines[0].sku", "expected str"),
    "unknown field": (b'{"lines":[],"colour":1}', {}, "colour", "known fields: lines"),
    "unknown inside": (
        b'{"lines":[{"sku":"a","x":1}]}',
        {},
        "lines[0].x",
        "known fields: sku, count",
    ),
    "missing field": (b"{}", {}, "lines", "is missing"),
    "missing inside": (b'{"lines":[{}]}', {}, "lines[0].sku", "is missing"),
    "empty body": (b"", {}, "lines", "is missing"),
    "huge int": (
        b'{"lines":[{"sku":"a","count":' + b"9" * 400 + b"}]}",
        {},
        "lines[0].count",
        "64-bit",
    ),
    "huge msgpack int": (
        msgpack.packb({"lines": [{"sku": "a", "count": 2**64 - 1}]}),
        {},
        "lines[0].count",
        "64-bit",
    ),
    "NaN": (
        msgpack.packb({"lines": [], "price": float("nan")}),
        {},
        "price",
        "finite",
    ),
    "infinity": (b'{"lines":[],"price":1e999}', {}, "", ""),
    "NaN in json": (b'{"lines":[],"price":NaN}', {}, "", "not valid json"),
    "text not UTF-8": (b'{"lines":[],"note":"\xff\xfe"}', {}, "", ""),
    "null": (b'{"lines":null}', {}, "lines", "expected array"),
    "array": (b"[]", {"Content_Type": JSON}, "", "expected object"),
    "content type": (
        b"{}",
        {"Content_Type": "text/html"},
        "Content-Type",
        "use one of",
    ),
    "raw to a struct": (b"{}", {"Content_Type": RAW}, "Content-Type", "bytes only"),
    "json named msgpack": (b"{}", {"Content_Type": MSGPACK}, "", ""),
    "timeout not a number": (b"{}", {"Kit_Timeout": "soon"}, "Kit-Timeout", "whole"),
    "timeout negative": (b"{}", {"Kit_Timeout": "-5"}, "Kit-Timeout", "whole"),
    "timeout fraction": (b"{}", {"Kit_Timeout": "1.5"}, "Kit-Timeout", "whole"),
    "timeout huge": (b"{}", {"Kit_Timeout": "9" * 13}, "Kit-Timeout", "whole"),
    "timeout endless": (
        b"{}",
        {"Kit_Timeout": "0" * 16 + "9" * 5000},
        "Kit-Timeout",
        "whole",
    ),
    "timeout in other digits": (
        b"{}",
        {"Kit_Timeout": "\u0661"},
        "Kit-Timeout",
        "whole",
    ),
}


@pytest.mark.parametrize("case", BAD)
async def test_bad_requests(kit: Kit, case: str) -> None:
    """Each is INVALID_ARGUMENT that names the field, is counted, and the service goes on."""
    host = await kit.serve(Shop())
    body, headers, field, text = BAD[case]
    reply = await ask(kit, body, **headers)
    assert reply.headers["Kit-Code"] == "invalid_argument", reply.headers
    assert reply.headers["Nats-Service-Error-Code"] == "400"
    if field:
        assert reply.headers["Kit-Error-Field"] == field
    assert text in reply.headers["Nats-Service-Error"]
    stats = host.snapshots()["shop.order"]
    assert (stats.invalid, stats.errors, stats.requests) == (1, 1, 1)
    assert stats.last_error.startswith("invalid_argument:")
    assert (await ask(kit, b'{"lines":[{"sku":"a"}]}')).data == b'{"a":1}'


BLOCKS = {
    "forged line": b"NATS/1.0\r\nA: b\rC: d\r\n\r\n",
    "no colon": b"NATS/1.0\r\nnonsense\r\n\r\n",
    "no version": b"HTTP/1.1 200\r\n\r\n",
    "not UTF-8": b"NATS/1.0\r\nA: \xff\xfe\r\n\r\n",
    "bad name": b"NATS/1.0\r\nA b: c\r\n\r\n",
    "two timeouts": b"NATS/1.0\r\nKit-Timeout: 5\r\nKit-Timeout: 50\r\n\r\n",
    "two types": b"NATS/1.0\r\nContent-Type: application/json\r\n"
    b"content-type: application/msgpack\r\n\r\n",
}


@pytest.mark.parametrize("case", BLOCKS)
async def test_bad_headers(kit: Kit, case: str) -> None:
    """So are headers that are malformed, or say a thing twice."""
    host = await kit.serve(Shop())
    reply = await ask(kit, b'{"lines":[]}', block=BLOCKS[case])
    assert reply.headers["Kit-Code"] == "invalid_argument", reply.headers
    assert reply.headers["Kit-Request-Id"]
    assert host.snapshots()["shop.order"].invalid == 1
    assert (await ask(kit, b'{"lines":[]}')).data == b"{}"


async def test_random_bytes(kit: Kit) -> None:
    """Three hundred bodies of noise get three hundred refusals."""
    host = await kit.serve(Shop())
    noise = random.Random(7)  # repeatable
    kinds: list[dict[str, Any]] = [
        {},
        {"Content_Type": JSON},
        {"Content_Type": MSGPACK},
    ]
    for n in range(300):
        body = noise.randbytes(noise.randrange(1, 60))
        reply = await ask(kit, body, **kinds[n % 3])
        assert reply.headers["Kit-Code"] == "invalid_argument", body
    assert host.snapshots()["shop.order"].invalid == 300


async def test_a_body_over_the_limit_is_refused_before_it_is_sent(shop: Kit) -> None:
    """The caller learns the limit; the service hears nothing."""
    with pytest.raises(InvalidArgument, match="bytes"):
        await shop.client(Shop).order([], note="x" * (64 << 20))
    assert shop.hosts[0].snapshots()["shop.order"].requests == 0


async def test_headers_of_a_client_cannot_be_forged(shop: Kit) -> None:
    """Metadata with a line break is refused at the caller."""
    with pytest.raises(InvalidArgument, match="line break"):
        shop.client(Shop, metadata={"A": "b\r\nKit-Code: ok"})


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"\xc1", {}),
        (b"{", {"Content_Type": JSON}),
        (b'"text"', {"Content_Type": JSON}),
        (b"{}", {"Content_Type": "text/html"}),
        (b"", {}),
    ],
)
async def test_a_reply_that_does_not_fit(
    kit: Kit, body: bytes, headers: dict[str, str]
) -> None:
    """That is the service's fault: `DataLoss`, not `InvalidArgument`."""
    block = encode_headers({k.replace("_", "-"): v for k, v in headers.items()})
    kit.bus.subscribe("shop.order", lambda m: kit.bus.publish(m.reply, body, "", block))
    with pytest.raises(DataLoss):
        await kit.client(Shop).order([])
