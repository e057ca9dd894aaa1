"""Requests that do not fit: refused by the path of the field, in words."""

from __future__ import annotations

import datetime
import json
import math
from decimal import Decimal  # noqa: TC003  # read from a signature
from typing import (
    Annotated,
    Any,
    Literal,
)
from uuid import UUID

import msgspec
import pytest
from msgspec import Meta

from kitmsg.codec import JSON, MSGPACK
from kitmsg.errors import (
    InvalidArgument,
)
from kitmsg.schema import signature
from tests.schema.shapes import (
    BOTH,
    GREETER,
    Address,
    Cat,
    Color,
    Dog,
    Item,
    Line,
    Node,
    Page,
    Pair,
    Point,
    UserId,
    refused,
    taking,
)


class Deep(msgspec.Struct):
    """Everything nested that can hide a bad number or name."""

    line: Line
    node: Node
    address: Address
    pet: Cat | Dog
    pair: Pair
    point: Point
    page: Page[Line]
    item: Item
    by_key: dict[str, Line]
    by_int: dict[int, int]
    any: Any
    amount: Decimal
    maybe: float | None
    either: int | list[int]


DEEP: dict[str, Any] = {
    "line": {"sku": "a"},
    "node": {"value": 1, "next": {"value": 2}},
    "address": {"street": "a", "number": 1},
    "pet": {"type": "Cat", "lives": 9},
    "pair": [1, "a"],
    "point": [1, 2.0],
    "page": {"rows": [{"sku": "a"}]},
    "item": {"sku": "a"},
    "by_key": {"k": {"sku": "a"}},
    "by_int": {"1": 1},
    "any": None,
    "amount": "1.5",
    "maybe": 1.5,
    "either": [1],
}

BIG = 2**63

NO_FINITE = "expected a finite number"

NO_INT = "expected a 64-bit integer"


def test_deep_request_is_fine_as_it_is():
    """The request that the cases below spoil is accepted."""
    for codec in (JSON, MSGPACK):
        body = {**DEEP, "by_int": {1: 1}} if codec is MSGPACK else DEEP
        decode = signature(taking(Deep)).request_decoder(codec)
        assert decode(codec.encoder()(body)).pet == Cat(9)


@pytest.mark.parametrize(
    ("change", "field", "problem"),
    [
        ({"x": 1}, "x", "is not known; known fields: line, node, address, "),
        ({"line": {"sku": "a", "x": 1}}, "line.x", "known fields: sku, count, price"),
        ({"line": {"sku": "a", "count": BIG}}, "line.count", NO_INT),
        ({"line": {"sku": "a", "price": math.nan}}, "line.price", NO_FINITE),
        ({"line": {"sku": "a", "price": -math.inf}}, "line.price", NO_FINITE),
        ({"line": {"sku": "a", "count": "1"}}, "line.count", "expected int, got str"),
        ({"line": {"count": 1}}, "line.sku", "is missing"),
        ({"node": {"value": 1, "next": {"value": BIG}}}, "node.next.value", NO_INT),
        (
            {"node": {"value": 1, "next": {"value": 1, "x": 1}}},
            "node.next.x",
            "known fields: value, next",
        ),
        ({"address": {"street": "a"}}, "address.number", "is missing"),
        (
            {"address": {"street": "a", "number": 1, "x": 1}},
            "address.x",
            "known fields: number, street",
        ),
        ({"pet": {"type": "Cow"}}, "pet.type", "nvalid value 'Cow'"),
        ({"pet": {"type": "Cat", "lives": BIG}}, "pet.lives", NO_INT),
        ({"pet": {"type": "Dog", "name": "a", "lives": 1}}, "pet.lives", "not known"),
        ({"pair": [BIG, "a"]}, "pair[0]", NO_INT),
        ({"point": [1, math.inf]}, "point[1]", NO_FINITE),
        ({"point": [1, 2.0, 3]}, "point", "expected 2 items, got 3"),
        ({"page": {"rows": [{"sku": "a", "x": 1}]}}, "page.rows[0].x", "not known"),
        ({"item": {"sku": 1}}, "item.sku", "nput should be a valid string"),
        ({"item": {"sku": "a", "count": "1"}}, "item.count", "valid integer"),
        ({"item": {"sku": "a", "count": BIG}}, "item.count", NO_INT),
        ({"item": {}}, "item.sku", "is missing"),
        ({"item": {"sku": "a", "x": 1}}, "item.x", "known fields: sku, when, count"),
        ({"by_key": {"k": {"sku": "a", "x": 1}}}, "by_key[k].x", "not known"),
        ({"by_int": {BIG: 1}}, f"by_int[{BIG}]", NO_INT),
        ({"any": [{"a": [BIG]}]}, "any[0][a][0]", NO_INT),
        ({"any": {"a": math.nan}}, "any[a]", NO_FINITE),
        ({"amount": "NaN"}, "amount", NO_FINITE),
        ({"amount": "-Infinity"}, "amount", NO_FINITE),
        ({"maybe": math.nan}, "maybe", NO_FINITE),
        ({"either": BIG}, "either", NO_INT),
        ({"either": [BIG]}, "either[0]", NO_INT),
        ({"either": "1"}, "either", "expected int | array, got str"),
    ],
    ids=lambda v: str(v)[:40],
)
def test_bad_field_at_any_depth_is_refused_by_its_path(change, field, problem):
    """Unknown, missing, wrong, huge and not finite: all are named, however deep."""
    body = {**DEEP, "by_int": {1: 1}, **change}
    error = refused(taking(Deep), body, MSGPACK)
    assert (error.field, problem in str(error)) == (field, True), str(error)
    text = json.dumps(body)
    if "NaN" in text.replace('"NaN"', "") or "Infinity" in text.replace('"-I', ""):
        return
    error = refused(taking(Deep), text.encode())
    assert (error.field, problem in str(error)) == (field, True), str(error)


@pytest.mark.parametrize(
    ("annotation", "value", "field", "problem"),
    [
        (int, "1", "x", "expected int, got str"),
        (int, 1.5, "x", "expected int, got float"),
        (int, True, "x", "expected int, got bool"),
        (int, None, "x", "expected int, got null"),
        (int, BIG, "x", NO_INT),
        (int, -(2**63), "", ""),
        (float, math.nan, "x", NO_FINITE),
        (float, "1", "x", "expected float, got str"),
        (bool, 1, "x", "expected bool, got int"),
        (str, 1, "x", "expected str, got int"),
        (Color, "green", "x", "expected one of red, blue"),
        (Literal["s", "m"], "xl", "x", "expected one of"),
        (UserId, BIG, "x", NO_INT),
        (list[int], [1, BIG], "x[1]", NO_INT),
        (dict[str, float], {"a": math.inf}, "x[...]", NO_FINITE),
        (int | None, BIG, "x", NO_INT),
        (Annotated[int, Meta(ge=0)], -1, "x", "expected int >= 0"),
        (Annotated[int, Meta(gt=0)], BIG, "x", NO_INT),
        (Annotated[float, Meta(lt=1)], 1.0, "x", "expected float < 1"),
        (Annotated[list[int], Meta(max_length=1)], [1, 2], "x", "length <= 1"),
        (datetime.date, "tomorrow", "x", "nvalid"),
        (UUID, "1", "x", "nvalid UUID"),
    ],
    ids=str,
)
def test_bad_parameter_is_refused_by_its_name(annotation, value, field, problem):
    """Plain parameters follow the same rules, with a user's own bounds kept."""
    if not field:
        decode = signature(taking(annotation)).request_decoder(MSGPACK)
        assert decode(MSGPACK.encoder()({"x": value})).x == value
        return
    error = refused(taking(annotation), {"x": value}, MSGPACK)
    assert (error.field, problem in str(error)) == (field, True), str(error)


def test_text_of_digits_is_a_fine_key_where_keys_are_text():
    """Only keys that are numbers are held to 64 bits."""
    key = "9" * 40
    for annotation in (Any, dict, dict[str, Line], dict[str, int]):
        value = {key: {"sku": "a"} if annotation == dict[str, Line] else 1}
        for codec in (JSON, MSGPACK):
            decode = signature(taking(annotation)).request_decoder(codec)
            assert list(decode(codec.encoder()({"x": value})).x) == [key]
    error = refused(taking(dict[str, dict[int, Line]]), {"x": {"a": {key: {}}}})
    assert NO_INT in str(error)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            b'{"name":"a","bogus":1}',
            "field 'bogus' is not known; known fields: name, t",
        ),
        (b"{}", "field 'name' is missing"),
        (b"[1]", "the request: expected object, got array"),
        (b'{"name":', "the body is not valid json: input data was truncated"),
        (b'{"name":"\xff"}', "the body is not valid json: a text is not UTF-8"),
        (b'{"name":"a","times":1e999}', "field 'times'"),
        (b'{"name":"a","times":' + b"9" * 400 + b"}", f"field 'times': {NO_INT}"),
        (b'{"name":"a","times":' + b"9" * 9000 + b"}", f"field 'times': {NO_INT}"),
        (b"{" + b'"a":{' * 5000, "field 'a' is not known"),
    ],
    ids=lambda v: str(v)[:30],
)
def test_bad_body_is_refused_in_words(body, message):
    """No body gets anything but an answer that says what is wrong with it."""
    assert str(refused(GREETER.hello, body)).startswith(message)


@BOTH
def test_100_deep_body_is_fine_and_9999_deep_is_refused(codec):
    """Depth is bounded by an answer, not by a crash."""
    decode = signature(taking(Any)).request_decoder(codec)
    deep = {"json": (b'{"x":', b"[", b"]", b"}"), "msgpack": (b"\x81\xa1x", b"\x91")}
    head, open_, *tail = deep[codec.name]
    close, end = tail or (b"", b"")
    last = b"1" if tail else b"\x01"
    assert decode(head + open_ * 100 + last + close * 100 + end)
    with pytest.raises(InvalidArgument, match="nested too deeply"):
        decode(head + open_ * 9999 + last + close * 9999 + end)


def test_unknown_fields_may_be_ignored():
    """The option lets them pass at any depth, and keeps the rules for numbers."""
    body: dict[str, Any] = {
        "order": {"lines": [{"sku": "a", "x": 1}], "x": 1},
        "x": 1,
    }
    lax = signature(GREETER.mixed, unknown_fields="ignore")
    assert lax.request_decoder(JSON)(JSON.encoder()(body)).order.lines[0].sku == "a"
    body["order"]["lines"][0]["count"] = BIG
    with pytest.raises(InvalidArgument, match="64-bit"):
        lax.request_decoder(JSON)(JSON.encoder()(body))


def test_error_inside_a_users_own_check_is_an_invalid_argument():
    """A ``__post_init__`` that raises ValueError refuses the request."""

    class Range(msgspec.Struct):
        low: int
        high: int

        def __post_init__(self) -> None:
            if self.low > self.high:
                raise ValueError("low is over high")

    error = refused(taking(list[Range]), {"x": [{"low": 2, "high": 1}]})
    assert (error.field, str(error)) == ("x[0]", "field 'x[0]': low is over high")
