"""Errors as headers, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from kitmsg import BusinessError, Code
from kitmsg.codec import JSON, MSGPACK, RAW, Codec
from kitmsg.errors import (
    Internal,
    InvalidArgument,
    KitError,
    NotFound,
    ResourceExhausted,
    error_for,
)
from kitmsg.message import Message, encode_headers
from kitmsg.transport.replies import Declared, decode_error, encode_error
from kitmsg.wire import plain_headers, timeout_ms

SECRET = "hunter2"  # what must never be told


class OutOfStock(BusinessError):
    """There is not enough."""

    code = Code.ABORTED
    template = "only {left} of {sku} left"
    sku: str
    left: int = 0


class TooBig(ValueError):
    """A plain exception, with arguments and nothing else."""


@dataclass
class Overdrawn(Exception):
    """A plain exception that is a dataclass."""

    balance: int


DECLARED = {cls.__name__: Declared.of(cls) for cls in (OutOfStock, TooBig, Overdrawn)}


def across(error: BaseException, codec: Codec = MSGPACK) -> Any:
    """Return what arrives when `error` is sent."""
    data, block = encode_error(error, request_id="r-1", codec=codec, declared=DECLARED)
    message = Message("reply", data, header_block=block)
    return decode_error(message, codec=codec, declared=DECLARED)


@pytest.mark.parametrize("codec", [MSGPACK, JSON, RAW], ids=lambda c: c.name)
def test_declared_errors_cross(codec: Codec) -> None:
    """A declared error arrives as its class with its fields, in every codec."""
    stock = across(OutOfStock("ball", 2), codec)
    assert type(stock) is OutOfStock
    assert (stock.sku, stock.left, str(stock)) == ("ball", 2, "only 2 of ball left")
    big = across(TooBig("more than 10", 11), codec)
    assert type(big) is TooBig
    assert big.args == ("more than 10", 11)
    overdrawn = across(Overdrawn(5), codec)
    assert type(overdrawn) is Overdrawn
    assert overdrawn.balance == 5


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OutOfStock("ball"), "aborted"),
        (TooBig("x"), "failed_precondition"),
        (Overdrawn(1), "failed_precondition"),
        (NotFound("x"), "not_found"),
        (ValueError("x"), "internal"),
    ],
)
def test_codes(error: Exception, code: str) -> None:
    """An error says its code; a plain declared one is a failed precondition."""
    _, block = encode_error(error, request_id="r-1", codec=MSGPACK, declared=DECLARED)
    headers = Message("", header_block=block).headers
    assert headers["Kit-Code"] == code
    assert headers["Nats-Service-Error-Code"] == str(Code(code).http)
    assert headers["Kit-Request-Id"] == "r-1"


@pytest.mark.parametrize("code", list(Code))
def test_undeclared_errors_cross_by_code(code: Code) -> None:
    """Every code keeps class, text, request id and the time to wait."""
    there = across(error_for(code, "so it is", retry_after=1.5))
    assert type(there) is type(error_for(code, ""))
    assert (str(there), there.request_id, there.retry_after) == ("so it is", "r-1", 1.5)


def test_the_field_crosses() -> None:
    """An invalid argument still names its field."""
    assert across(InvalidArgument("bad", field="lines[0].sku")).field == "lines[0].sku"


def test_a_wait_is_rounded_up() -> None:
    """Nobody is told to come back too early."""
    assert across(ResourceExhausted("full", retry_after=0.0001)).retry_after == 0.001


@pytest.mark.parametrize(
    "error",
    [
        ValueError(SECRET),
        RuntimeError(SECRET, SECRET),
        type(SECRET, (Exception,), {})("x"),
        type("TooBig", (ValueError,), {})(SECRET),
    ],
)
def test_nothing_of_an_unknown_error_is_told(error: Exception) -> None:
    """Neither its text nor the name of its class; only where to look."""
    data, block = encode_error(error, request_id="r-1", codec=JSON, declared=DECLARED)
    assert SECRET.encode() not in data + block
    there = across(error)
    assert type(there) is Internal
    assert "r-1" in str(there)


def test_text_becomes_one_line() -> None:
    """Line breaks cannot forge a header, and ADR-32's text is bounded."""
    error = NotFound("no\r\nKit-Code: ok\0" + "x" * 5000)
    assert type(across(error)) is NotFound
    _, block = encode_error(error, request_id="r", codec=JSON, declared={})
    text = Message("", header_block=block).headers["Nats-Service-Error"]
    assert text.startswith("no Kit-Code: ok x")
    assert len(text) <= 1024


def test_an_empty_text_is_the_code() -> None:
    """ADR-32 wants a text."""
    _, block = encode_error(KitError(), request_id="r", codec=JSON, declared={})
    assert Message("", header_block=block).headers["Nats-Service-Error"] == "unknown"


def test_a_success_is_no_error() -> None:
    """Headers of another kind do not make a failure."""
    for block in (b"", encode_headers({"Content-Type": "application/json"})):
        message = Message("", header_block=block)
        assert decode_error(message, codec=JSON, declared={}) is None


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (b"", True),
        (plain_headers(5), True),
        (encode_headers({"Kit-Timeout": "5"}), True),
        (encode_headers({"Kit-Timeout": "5", "A": "b"}), False),
        (encode_headers({"A": "b"}), False),
        (b"NATS/1.0\r\nKit-Timeout: 55555\r\n", False),
    ],
)
def test_marks_the_short_form_as_plain(block: bytes, expected: bool) -> None:
    """Only the short form that most asks have needs no parsing."""
    message = Message("", header_block=block)
    timeout_ms(message)
    assert message.is_plain is expected


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (b"", None),
        (plain_headers(1500), 1500),
        (encode_headers({"kit-timeout": "7", "A": "b"}), 7),
        (encode_headers({"A": "b"}), None),
        (encode_headers({"Kit-Timeout": "0"}), 0),
    ],
)
def test_timeout(block: bytes, expected: int | None) -> None:
    """The short form and the long one say the same."""
    assert timeout_ms(Message("", header_block=block)) == expected
