"""What protobuf leaves out, what does not fit, and what is said of it."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator  # noqa: TC003  # read when services are defined
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Literal

import pytest
from hypothesis import given, settings, strategies as st
from msgspec import UNSET, Struct, UnsetType

from kitmsg import Service, endpoint
from kitmsg.errors import DataLoss, InvalidArgument
from kitmsg.idl.service import Description, shape_service
from kitmsg_gateways.grpc.convert import (
    Converter,
    Converters,
    reply_error,
    request_error,
)
from kitmsg_gateways.grpc.layout import Layout, lay_out

if TYPE_CHECKING:
    from google.protobuf.message import Message


class Level(IntEnum):
    LOW = 0
    HIGH = 2


class Line(Struct):
    sku: str
    count: int = 1


class Card(Struct, tag="card"):
    number: str


class Cash(Struct, tag="cash"):
    pass


class Order(Struct):
    """One of everything."""

    lines: list[Line]
    paid: Card | Cash
    level: Level
    colour: Literal["red", "blue"]
    notes: dict[str, Line]
    pair: tuple[int, str | None]
    either: int | str | list[int]
    default: int = 7
    nothing: int | None = None
    three: int | None = 5
    names: list[str] | None = None
    maybe: list[str] | UnsetType = UNSET
    data: bytes = b""
    extra: Any = None


class Shop(Service):
    @endpoint
    async def order(self, order: Order) -> Order:
        return order

    @endpoint
    async def sum(self, a: int, b: int) -> int:
        return a + b

    @endpoint
    async def fill(self, room: str, lines: AsyncIterator[Line]) -> int | None:
        return None

    @endpoint
    async def when(self) -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC)


ORDER: dict[str, Any] = {
    "lines": [{"sku": "tea", "count": 1}],
    "paid": {"type": "cash"},
    "level": 2,
    "colour": "red",
    "notes": {"a": {"sku": "b", "count": 3}},
    "pair": [1, None],
    "either": [1, 2],
}


def layout() -> Layout:
    endpoints = [
        Description(d.name, d.describe(), d.signature.doc, d.signature.stream)
        for d in Shop.__declarations__.values()
    ]
    return lay_out(shape_service("shop", endpoints))


CONVERTERS = Converters(layout())


def of(name: str) -> Converter:
    return CONVERTERS.of(name)


def written(name: str, value: Any) -> Any:
    return of(name).message(value)


def read(name: str, **fields: Any) -> Any:
    """Return a message that was made by hand as a value."""
    data = of(name).type(**fields).SerializeToString()
    return of(name).decoder(request_error)(data)


def test_scalars_have_their_zero() -> None:
    """A field that has to be there and is not is zero, since protobuf sends no zeroes."""
    assert read("SumRequest") == {"a": 0, "b": 0}
    assert read("SumRequest", a=-5) == {"a": -5, "b": 0}


def test_what_is_left_out_is_left_out() -> None:
    """The service's own default counts; lists and maps are empty."""
    order = read("Order", **minimal())
    assert order["lines"] == []
    assert order["notes"] == {}
    assert not order.keys() & {"default", "nothing", "three", "names", "maybe", "extra"}


def minimal() -> dict[str, Any]:
    return {"paid": {"cash": {}}, "colour": 1, "pair": {}, "either": {"int": 0}}


def test_a_zero_that_is_set_is_a_zero() -> None:
    """Presence tells a default from a zero."""
    assert read("Order", **minimal(), default=0)["default"] == 0


def test_null_and_left_out_differ_where_both_can_be() -> None:
    """A field with three states has a box, which may be empty."""
    assert read("Order", **minimal(), three={})["three"] is None
    assert read("Order", **minimal(), three={"value": 0})["three"] == 0
    assert not written("Order", {**ORDER, "three": None}).three.HasField("value")
    assert not written("Order", ORDER).HasField("three")


def test_an_empty_list_and_none_differ_where_both_can_be() -> None:
    """A list that may be null, or whose absence means something, has a box."""
    assert read("Order", **minimal(), names={})["names"] == []
    assert read("Order", **minimal(), maybe={"value": ["a"]})["maybe"] == ["a"]
    made = written("Order", {**ORDER, "maybe": [], "names": None})
    assert (made.HasField("maybe"), made.HasField("names")) == (True, False)


def test_null_in_an_array_keeps_its_place() -> None:
    """A tuple's item that is null is left out of the message and back in the value."""
    made = written("Order", ORDER)
    assert read_back(made)["pair"] == [1, None]


def read_back(message: Message) -> Any:
    return of("Order").decoder(request_error)(message.SerializeToString())


def test_anything_is_a_value() -> None:
    """A field of any type is JSON; whole numbers come back as integers."""
    extra = {"a": [1, 2.5, True, None, "x", {}, []], "b": -(2**53)}
    made = written("Order", {**ORDER, "extra": extra})
    assert read_back(made)["extra"] == extra
    assert read_back(written("Order", {**ORDER, "extra": None}))["extra"] is None


def test_times_in_msgpack_are_text() -> None:
    """In msgpack times have a type; protobuf has RFC 3339 text, as JSON."""
    now = datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.UTC)
    made = written("WhenResponse", now)
    assert made.value == "2026-01-02T03:04:05.000006Z"


def test_bytes_in_json_are_base64() -> None:
    """A reply in JSON and one in msgpack give the same message."""
    first = written("Order", {**ORDER, "data": "AP8="})
    assert first == written("Order", {**ORDER, "data": b"\x00\xff"})


def test_fields_nobody_knows_are_ignored() -> None:
    """On both sides: services grow, and so do clients."""
    assert written("SumResponse", 3) == of("SumResponse").type(value=3)
    made = written("SumRequest", {"a": 1, "b": 2, "c": 3})
    data = made.SerializeToString() + b"\x98\x06\x01"  # field 99
    assert of("SumRequest").decoder(request_error)(data) == {"a": 1, "b": 2}


def test_a_frame_holds_a_request_or_an_item() -> None:
    """The messages of a client's stream are read by their parts."""
    frame = of("FillInput")
    first = frame.part("request", of("FillRequest"))
    item = frame.part("item", of("Line"))
    data = first.encoder(request_error)({"room": "a"})
    assert first.decoder(request_error)(data) == {"room": "a"}
    with pytest.raises(InvalidArgument, match="field 'item' is missing"):
        item.decoder(request_error)(data)
    data = item.encoder(request_error)({"sku": "tea"})
    assert item.decoder(request_error)(data) == {"sku": "tea"}


@pytest.mark.parametrize(
    ("fields", "path", "problem"),
    [
        ({"paid": None}, "paid", "is missing"),
        ({"paid": {}}, "paid", "is missing; choose one of card, cash"),
        ({"colour": 0}, "colour", "is missing"),
        ({"colour": 9}, "colour", "9 is no value of OrderColour"),
        ({"level": 1}, "level", "1 is no value of Level"),
        ({"pair": None}, "pair", "is missing"),
        ({"either": {}}, "either", "is missing; choose one of int, str, list"),
        (
            {"extra": {"number_value": float("nan")}},
            "extra",
            "expected a finite number",
        ),
    ],
)
def test_a_request_that_does_not_fit_names_the_field(
    fields: dict[str, Any], path: str, problem: str
) -> None:
    """Enums, unions and messages have no zero, so they have to be there."""
    with pytest.raises(InvalidArgument) as caught:
        read("Order", **{**minimal(), **fields})
    assert caught.value.field == path
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "path", "problem"),
    [
        ({"lines": None}, "lines", "is null"),
        ({"lines": 5}, "lines", "expected an array, got int"),
        ({"lines": [{"sku": "a"}, {}]}, "lines[1].sku", "is missing"),
        ({"lines": [{"sku": 5}]}, "lines[0].sku", "expected text, got int"),
        ({"notes": {"a": {}}}, "notes[a].sku", "is missing"),
        ({"notes": []}, "notes", "expected an object, got an array"),
        ({"notes": {"a": 1}}, "notes[a]", "expected an object, got int"),
        ({"paid": {"type": "gold"}}, "paid", "expected another type than an object"),
        ({"paid": None}, "paid", "is null"),
        ({"level": 1}, "level", "holds no value of Level"),
        ({"colour": []}, "colour", "holds no value of OrderColour"),
        ({"pair": {}}, "pair", "expected an array, got an object"),
        ({"pair": []}, "pair.item_1", "is missing"),
        ({"either": {}}, "either", "expected another type than an object"),
        ({"data": "?"}, "data", "is not base64"),
        ({"data": 1}, "data", "expected bytes, got int"),
        ({"extra": 2**53 + 1}, "extra", "is not exact in a double"),
        ({"default": "x"}, "", "does not fit Order"),
        ({"default": 2**63}, "", "does not fit Order"),
        ({"default": 1.5}, "", "does not fit Order"),
        ({"lines": [{"sku": "\ud800"}]}, "", "does not fit Order"),
    ],
)
def test_a_reply_that_does_not_fit_names_the_field(
    fields: dict[str, Any], path: str, problem: str
) -> None:
    """A service that breaks its own schema is told which field does."""
    with pytest.raises(DataLoss) as caught:
        of("Order").encoder(reply_error)({**ORDER, **fields})
    text = str(caught.value)
    assert problem in text
    assert f"field {path!r}" in text or not path


@pytest.mark.parametrize(
    "data", [b"\xff", b"\x0a\x05a", b"\x0a\xff\xff\xff\xff\x0f", b"\x00"]
)
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    """Garbage and what is cut short is the caller's fault, and says no more."""
    with pytest.raises(InvalidArgument, match="the message is no Line, or cut short"):
        of("Line").decoder(request_error)(data)


def test_a_message_that_is_not_there_is_a_key_error() -> None:
    """Names come from the layout."""
    with pytest.raises(KeyError):
        of("Gone")


@settings(max_examples=500, deadline=None)
@given(data=st.binary(max_size=60), cut=st.integers(0, 200), at=st.integers(0, 200))
def test_any_bytes_are_a_value_or_refused(data: bytes, cut: int, at: int) -> None:
    """Of 1,000 inputs, random or a message with bytes put in and cut off, none escapes."""
    whole = written("Order", ORDER).SerializeToString()
    for given_ in (data, (whole[:at] + data + whole[at:])[:cut]):
        try:
            value = of("Order").decoder(request_error)(given_)
        except InvalidArgument:
            continue
        assert read_back(written("Order", value)) == value
