"""The header blocks of a stream's messages, as written and as read."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from kitmsg.message import Headers, encode_headers
from kitmsg.transport.frames import (
    credit_frame,
    credit_number,
    end_frame,
    item_frame,
    item_number,
    number,
    open_frame,
)
from kitmsg.wire import with_fields


@given(st.integers(1, 10**14))
def test_an_items_number_is_read_back(seq: int) -> None:
    """Also by whoever parses headers the usual way."""
    block = item_frame(seq)
    assert item_number(block) == seq
    assert Headers.parse(block)["Kit-Seq"] == str(seq)


@given(st.binary(max_size=80))
def test_anything_else_is_no_item(block: bytes) -> None:
    """A block that only resembles an item's has no number."""
    if not block.startswith(b"NATS/1.0\r\nKit-Seq: "):
        assert item_number(block) == 0


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", " 1", "x", "9" * 40])
def test_a_bad_number_is_no_item(text: str) -> None:
    """Nothing but digits, and not endless ones."""
    assert item_number(b"NATS/1.0\r\nKit-Seq: %b\r\n\r\n" % text.encode()) == 0


def test_an_item_with_more_headers_is_none() -> None:
    """The form is exact: an end has a number too."""
    assert item_number(end_frame(5)) == 0
    assert item_number(encode_headers({"Kit-Seq": "5", "X": "1"})) == 0


def test_the_others_are_ordinary_headers() -> None:
    """What is rare is parsed."""
    assert dict(Headers.parse(open_frame(3))) == {
        "Kit-Stream": "open",
        "Kit-Credit": "3",
    }
    assert number(Headers.parse(credit_frame(7)), "Kit-Credit") == 7
    error = encode_headers({"Kit-Code": "internal"})
    assert dict(Headers.parse(end_frame(2, error))) == {
        "Kit-Stream": "end",
        "Kit-Seq": "2",
        "Kit-Code": "internal",
    }


@given(
    st.dictionaries(st.from_regex(r"[A-Z][a-z]{1,8}", fullmatch=True), st.just("v")),
    st.dictionaries(st.from_regex(r"X-[a-z]{1,8}", fullmatch=True), st.just("w")),
)
def test_fields_are_put_in_front(old: dict[str, str], new: dict[str, str]) -> None:
    """Nothing of the old block is lost."""
    block = with_fields(encode_headers(old), new)
    assert Headers.parse(block).pairs() == (*new.items(), *old.items())


@given(st.integers(1, 10**14))
def test_credit_is_read_back(upto: int) -> None:
    """Without parsing where it stands alone, and only there."""
    assert credit_number(credit_frame(upto)) == upto
    assert credit_number(encode_headers({"Kit-Credit": str(upto), "X": "1"})) == 0
    assert credit_number(item_frame(upto)) == 0
    assert credit_number(open_frame(upto)) == 0


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", " 1", "x", "9" * 40])
def test_a_bad_credit_is_none(text: str) -> None:
    """Nothing but digits, and not endless ones."""
    assert credit_number(b"NATS/1.0\r\nKit-Credit: %b\r\n\r\n" % text.encode()) == 0
