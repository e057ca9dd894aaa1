"""Random input, some 4,000 bodies and headers: only a value or `InvalidArgument`.

Each test says how many inputs it tries; the seeds are fixed, so a run repeats itself.
"""

from __future__ import annotations

import dataclasses
import datetime  # noqa: TC003  # read at run time
import json
import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID  # noqa: TC003

import msgspec
import pydantic
import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from kitmsg.codec import JSON, MSGPACK, Codec, sniff
from kitmsg.errors import InvalidArgument
from kitmsg.message import Headers, encode_headers
from kitmsg.schema import signature

if TYPE_CHECKING:
    from collections.abc import Callable


def tries(count: int) -> Callable[..., Any]:
    """Return the settings for `count` inputs, the same ones in every run."""
    return settings(
        max_examples=count,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@dataclasses.dataclass
class Line:
    """What an order is made of."""

    sku: str
    count: int = 1
    price: float = 1.0


class Cat(msgspec.Struct, tag=True):
    """One of two pets."""

    lives: int


class Dog(msgspec.Struct, tag=True):
    """The other."""

    name: str


class Tree(msgspec.Struct):
    """A recursive request."""

    value: int | float | str | None
    left: Tree | None = None
    children: list[Tree] = []
    pet: Cat | Dog | None = None


class Item(pydantic.BaseModel):
    """A pydantic model, nested in itself."""

    sku: str | int = ""
    when: datetime.date | None = None
    price: float = 1.0
    parts: list[Item] = []
    anything: Any = None


async def sum_(a: int, b: int = 2) -> int:
    """Take plain parameters."""
    return a + b


async def place(
    lines: list[Line], by: dict[str, Line], note: str | None = None
) -> None:
    """Take dataclasses."""


async def grow(tree: Tree) -> None:
    """Take one recursive Struct."""


async def rich(
    when: datetime.datetime | None = None,
    amount: Decimal = Decimal(0),
    id: UUID | None = None,  # noqa: A002
    blob: bytes = b"",
    tags: set[str] = set(),  # noqa: B006
    size: Literal["s", "m", 3] = "s",
    anything: Any = None,
    pair: tuple[int, float] = (1, 1.0),
    by_id: dict[int, float] | None = None,
) -> None:
    """Take what has a text form, and anything."""


async def sell(item: Item, anything: dict[str, Item] | None = None) -> None:
    """Take pydantic models."""


SIGNATURES = [signature(f, owner="Fuzz") for f in (sum_, place, grow, rich, sell)]
DECODERS = {
    codec.name: [s.request_decoder(codec) for s in SIGNATURES]
    for codec in (JSON, MSGPACK)
}
VALID: dict[str, Any] = {
    "a": 1,
    "b": 2,
    "lines": [{"sku": "a", "count": 1, "price": 1.5}],
    "by": {"k": {"sku": "b"}},
    "note": "ü",
    "value": 1,
    "left": {"value": None, "pet": {"type": "Cat", "lives": 9}},
    "children": [{"value": "x"}, {"value": 1.5}],
    "amount": "1.5",
    "blob": "AAH/",
    "when": "2024-02-29T00:00:00Z",
    "anything": [{"a": None}],
    "by_id": {"1": 1.5},
    "item": {"sku": 1, "when": "2024-02-29", "parts": [{"price": 1.5}]},
}


def valid_body(function: int, codec: Codec) -> bytes:
    """Return a body that the signature of that number accepts."""
    names = {f.name for f in msgspec.structs.fields(SIGNATURES[function].request)}
    body = {key: value for key, value in VALID.items() if key in names}
    if "item" in body:
        body["anything"] = {"k": {}}
    if codec is MSGPACK and "by_id" in body:
        body = {**body, "by_id": {1: 1.5}, "blob": b"\x00"}
    return codec.encoder()(body)


def numbers(value: Any) -> list[Any]:
    """Return every number inside an untyped value."""
    if isinstance(value, dict):
        return [n for item in value.items() for part in item for n in numbers(part)]
    if isinstance(value, (list, tuple, set)):
        return [n for item in value for n in numbers(item)]
    return [value] if isinstance(value, (int, float)) else []


def accepts_or_refuses(codec: Codec, data: bytes) -> int:
    """Decode `data` with every signature; return how many accept it."""
    accepted = 0
    for decode in DECODERS[codec.name]:
        try:
            request = decode(data)
        except InvalidArgument:
            continue
        accepted += 1
        plain = msgspec.to_builtins(request, enc_hook=lambda model: model.model_dump())
        for number in numbers(plain):
            assert math.isfinite(number)
            assert isinstance(number, float) or -(2**63) <= number < 2**63
    return accepted


CODECS = st.sampled_from([JSON, MSGPACK])
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from([*VALID, "type", "sku", "x"]), inner, max_size=5
        )
    ),
    max_leaves=8,
)


@tries(1000)
@given(st.binary(max_size=200))
@example(b"\xc1")
@example(b"\x81\xd9")
@example(b"[" * 5000)
@example(b'{"a":' * 5000)
@example(b"\x81\xa1a" * 5000)
@example(b"\x91" * 5000)
@example(b"\x81\xa8anything" + b"\x81" * 5000)
def test_random_bytes_are_refused_or_decoded(data: bytes) -> None:
    """1,000 random bodies, each read as JSON, as msgpack and as what it looks like."""
    accepts_or_refuses(JSON, data)
    accepts_or_refuses(MSGPACK, data)
    try:
        codec = sniff(data)
    except InvalidArgument:
        return
    accepts_or_refuses(codec, data)


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=lambda codec: codec.name)
@pytest.mark.parametrize("function", range(5))
def test_truncated_body_is_refused(codec: Codec, function: int) -> None:
    """Every proper prefix of valid bodies (some 500 in all): refused, never read."""
    body = valid_body(function, codec)
    decode = DECODERS[codec.name][function]
    assert decode(body) is not None
    for length in range(1, len(body)):
        with pytest.raises(InvalidArgument, match="is not valid"):
            decode(body[:length])


@tries(500)
@given(st.integers(0, 4), CODECS, st.data())
def test_valid_body_with_changed_bytes_is_refused_or_decoded(
    function: int, codec: Codec, data: st.DataObject
) -> None:
    """500 valid bodies with up to four bytes replaced."""
    body = bytearray(valid_body(function, codec))
    changes = st.tuples(st.integers(0, len(body) - 1), st.integers(0, 255))
    for index, byte in data.draw(st.lists(changes, min_size=1, max_size=4)):
        body[index] = byte
    accepts_or_refuses(codec, bytes(body))


@tries(250)
@given(JSON_VALUES)
@example(None)
@example({"a": 2**63})
@example({"a": -(2**63) - 1})
def test_random_json_value_is_refused_or_decoded(value: Any) -> None:
    """250 random JSON values against every signature."""
    accepts_or_refuses(JSON, json.dumps(value).encode())


@tries(250)
@given(st.dictionaries(st.sampled_from([*VALID]), JSON_VALUES, max_size=4), CODECS)
@example({"anything": {"a": math.nan}}, MSGPACK)
@example({"anything": [2**64 - 1]}, MSGPACK)
@example({"amount": "sNaN"}, JSON)
@example({"item": {"price": math.nan}}, MSGPACK)
@example({"item": {"anything": [2**63]}}, MSGPACK)
@example({"item": {b"x": {1: 2}}}, MSGPACK)
def test_known_fields_with_random_values_are_refused_or_decoded(
    value: dict[str, Any], codec: Codec
) -> None:
    """250 maps of known names to random values, in either codec."""
    try:
        data = codec.encoder()({**value})
    except OverflowError:
        data = JSON.encoder()(value)
        codec = JSON
    accepts_or_refuses(codec, data)


@tries(500)
@given(st.integers(), st.integers())
def test_integers_are_accepted_up_to_64_bits_and_no_further(a: int, b: int) -> None:
    """500 pairs of integers of any size."""
    fits = all(-(2**63) <= n < 2**63 for n in (a, b))
    try:
        request = DECODERS["json"][0](json.dumps({"a": a, "b": b}).encode())
    except InvalidArgument:
        assert not fits
        return
    assert fits
    assert (request.a, request.b) == (a, b)


TOKENS = st.text("!#$%&'*+-.^_`|~09AZaz", min_size=1, max_size=12)


@tries(1000)
@given(st.binary(max_size=120), st.booleans())
@example(b"NATS/1.0\r\nA: 1\r\nB\r\n\r\n", True)
@example(b"NATS/1.0", True)
def test_random_header_block_is_refused_or_parsed(block: bytes, prefixed: bool) -> None:
    """1,000 random blocks; what parses encodes and parses to the same."""
    if prefixed:
        block = b"NATS/1.0\r\n" + block
    try:
        headers = Headers.parse(block)
    except InvalidArgument:
        return
    assert Headers.parse(encode_headers(headers)) == headers
    assert len(list(headers)) == len(headers)


@tries(500)
@given(st.dictionaries(TOKENS, st.text(max_size=30), max_size=5))
def test_encoded_headers_come_back(fields: dict[str, str]) -> None:
    """500 random fields: refused, or the same after the trip, blanks around them apart."""
    try:
        block = encode_headers(fields)
    except InvalidArgument:
        assert any(set(v) & set("\r\n\0") or not v.isascii() for v in fields.values())
        return
    expected = tuple((name, value.strip(" \t")) for name, value in fields.items())
    assert Headers.parse(block).pairs() == expected
