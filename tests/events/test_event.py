"""Classes of events: what is checked where they are defined."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import permutations
from typing import Any, Final

import pytest

from kitmsg import Event, upcast
from kitmsg.context import Context
from kitmsg.errors import InvalidArgument
from kitmsg.events import Stream, facts_of
from kitmsg.events.envelope import Reader, Writer
from kitmsg.message import Headers, Message, encode_headers


class Placed(Event, subject="orders.placed.{order_id}"):
    order_id: str
    total: Decimal = Decimal(0)


def test_a_class_knows_its_subject_its_name_and_its_stream() -> None:
    facts = facts_of(Placed)
    assert facts.name == "orders.placed"
    assert facts.pattern == "event.orders.placed.*"
    assert facts.stream == Stream(name="orders")
    assert facts.subject(Placed("A.1")) == "event.orders.placed.A%2E1"


def test_an_event_is_a_struct_that_nobody_changes() -> None:
    placed = Placed("A1", Decimal("9.5"))
    assert placed == Placed("A1", Decimal("9.5"))
    with pytest.raises(AttributeError):
        placed.order_id = "A2"  # type: ignore[misc]


def test_a_base_shares_its_fields_and_has_no_subject() -> None:
    class Base(Event):
        order_id: str

    class Paid(Base, subject="orders.paid.{order_id}"):
        cents: int

    assert facts_of(Paid).subject(Paid("A1", 5)) == "event.orders.paid.A1"
    with pytest.raises(TypeError, match="Base has no subject; write class Base"):
        facts_of(Base)


def test_a_subclass_does_not_take_the_subject_of_its_base() -> None:
    class Again(Placed):
        note: str = ""

    with pytest.raises(TypeError, match="Again has no subject"):
        facts_of(Again)


def test_what_is_no_event_is_refused() -> None:
    with pytest.raises(TypeError, match="is no class of events"):
        facts_of(dict)


def test_a_field_that_is_not_there_is_named() -> None:
    with pytest.raises(
        TypeError, match=r"has \{order_id\}, which is no field; there is id"
    ):

        class Odd(Event, subject="orders.{order_id}"):
            id: str


def test_a_field_that_has_no_text_is_named() -> None:
    with pytest.raises(
        TypeError, match=r"Odd\.total is in the subject .* must be str, int"
    ):

        class Odd(Event, subject="orders.{total}"):
            total: float


def test_options_without_a_subject_are_refused() -> None:
    with pytest.raises(TypeError, match="stream= and version= need a subject="):

        class Odd(Event, version=2):
            pass


def test_an_upcast_that_is_not_needed_is_refused() -> None:
    with pytest.raises(
        ValueError, match="brings up version 1, and the class is version 1"
    ):

        class Odd(Event, subject="odd"):
            @upcast(1)
            @staticmethod
            def old(fields: dict[str, Any]) -> dict[str, Any]:
                return fields


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"name": "a.b"}, "64 letters, digits, - and _"),
        ({"replicas": 6}, "from 1 to 5"),
        ({"storage": "disk"}, "'file' or 'memory'"),
        ({"full": "drop"}, "'refuse' or 'oldest'"),
        ({"max_age": 0.0}, "must be positive"),
        ({"max_events": -1}, "must be positive"),
    ],
)
def test_a_stream_option_that_cannot_be_is_refused(options: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Stream(**options)


class Priced(Event, subject="prices.set.{item}", version=2):
    item: str
    cents: int = 0

    @upcast(1)
    @staticmethod
    def in_cents(old: dict[str, Any]) -> dict[str, Any]:
        return {"item": old["item"], "cents": old["euros"] * 100}


_PLACED = {"ce-type": "orders.placed", "Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("headers", "data", "event"),
    [
        (_PLACED, b'{"order_id":"A1"}', Placed("A1")),
        ({"CE-Type": "orders.placed"}, b'{"order_id":"A1"}', Placed("A1")),
        ({}, b"\x81\xa8order_id\xa2A1", "an event of type ''"),
        ({"ce-type": "prices.set"}, b'{"item":"tea","euros":2}', Priced("tea", 200)),
        (
            {**_PLACED, "ce-type": "orders.paid"},
            b"{}",
            "an event of type 'orders.paid'",
        ),
        (_PLACED, b'{"order_id":7}', "order_id"),
        ({**_PLACED, "Content-Type": "application/msgpack"}, b"\x80", "order_id"),
    ],
)
def test_a_message_is_read_by_its_type_and_its_codec(
    headers: dict[str, str], data: bytes, event: Event | str
) -> None:
    """The usual headers are not parsed, and say the same as those that are."""
    reader = Reader(Placed, Priced)
    message = Message("event.a", data, header_block=encode_headers(headers))
    if isinstance(event, Event):
        assert reader.decode(Context(), message) == event
        return
    with pytest.raises(InvalidArgument, match=event):
        reader.decode(Context(), message)


class Paid(Event, subject="orders.paid.{order_id}"):
    order_id: str


_READ: Final = (
    (_PLACED, b'{"order_id":"A1"}', Placed("A1")),
    ({**_PLACED, "ce-type": "orders.paid"}, b'{"order_id":"A1"}', Paid("A1")),
    ({**_PLACED, "ce-id": "1", "b": "c"}, b'{"order_id":"A2"}', Placed("A2")),
    (
        {"ce-type": "orders.placed", "Content-Type": "application/msgpack"},
        b"\x81\xa8order_id\xa2A3",
        Placed("A3"),
    ),
    ({"ce-type": "prices.set"}, b'{"item":"tea","euros":2}', Priced("tea", 200)),
)


def test_a_message_is_read_alike_whatever_came_before() -> None:
    """Headers that begin as the last ones are looked at no further; others are."""
    for order in permutations(_READ):
        reader = Reader(Placed, Paid, Priced)
        for headers, data, event in (*order, *order):
            message = Message("event.a", data, header_block=encode_headers(headers))
            assert reader.decode(Context(), message) == event


@pytest.mark.parametrize("more", [{}, {"traceparent": "00-ab", "x-team": "ü"}])
def test_a_header_block_has_what_the_headers_have(more: dict[str, str]) -> None:
    writer = Writer(Placed)
    block = Headers.parse(writer.block("id-1", "orders", more))
    headers = writer.headers("id-1", "orders", more)
    told, times = dict(block), (block["ce-time"], headers["ce-time"])
    assert {**told, "ce-time": ""} == {**headers, "ce-time": ""}
    assert datetime.fromisoformat(times[0]) <= datetime.fromisoformat(times[1])
    now = datetime.now(UTC)
    assert abs(now - datetime.fromisoformat(times[1])) < timedelta(minutes=1)
