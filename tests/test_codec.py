"""Codecs: which one a message is in, and what bad bytes turn into."""

from __future__ import annotations

import dataclasses
import datetime
import math
import subprocess
import sys
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import msgpack
import msgspec
import pytest

from kitmsg.codec import (
    DECODE_ERRORS,
    ENCODE_ERRORS,
    JSON,
    MSGPACK,
    RAW,
    Codec,
    by_content_type,
    sniff,
    translate,
)
from kitmsg.errors import InvalidArgument

BOTH = pytest.mark.parametrize("codec", [MSGPACK, JSON], ids=lambda codec: codec.name)


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """A Struct that forbids unknown fields by itself."""

    sku: str
    size: Literal["s", "m"] = "s"


class Order(msgspec.Struct):
    """Structs in a list."""

    lines: list[Line]


def refused(codec: Codec, type_: Any, data: bytes) -> InvalidArgument:
    """Return the error that `data` turns into."""
    with pytest.raises(DECODE_ERRORS) as caught:
        codec.decoder(type_)(data)
    return translate(caught.value, codec.name)


@pytest.mark.parametrize(
    ("value", "codec"),
    [
        ("application/msgpack", MSGPACK),
        ("application/x-msgpack", MSGPACK),
        ("Application/JSON; charset=utf-8", JSON),
        ("text/json", JSON),
        ("application/problem+json", JSON),
        ("application/octet-stream", RAW),
    ],
)
def test_content_type_names_the_codec_whatever_its_case_and_parameters(value, codec):
    """A content type is found by its name alone."""
    assert by_content_type(value) is codec


@pytest.mark.parametrize("codec", [MSGPACK, JSON, RAW])
def test_codec_is_found_by_its_own_content_type(codec):
    """What a codec announces leads back to it."""
    assert by_content_type(codec.content_type) is codec


@pytest.mark.parametrize("value", ["", "text/plain", "application/ +json", "x" * 500])
def test_unknown_content_type_is_refused_with_the_known_ones(value):
    """The error names the header and what would do."""
    with pytest.raises(InvalidArgument, match="application/msgpack, app") as caught:
        by_content_type(value)
    assert caught.value.field == "Content-Type"
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("data", "codec"),
    [
        (b'{"a":1}', JSON),
        (b' \r\n\t{"a":1}', JSON),
        (b"", JSON),
        (b"\x80", MSGPACK),
        (b"\x8f", MSGPACK),
        (b"\xde\x00\x00", MSGPACK),
        (b"\xdf\x00\x00\x00\x00", MSGPACK),
    ],
)
def test_first_byte_of_a_request_tells_its_codec(data, codec):
    """A request is a map, so its first byte says how it is written."""
    assert sniff(data) is codec


@pytest.mark.parametrize("first", sorted({*range(256)} - {*b"{ \t\r\n", 0xDE, 0xDF}))
def test_any_other_first_byte_is_refused_with_what_was_expected(first):
    """Nothing else can begin a request."""
    if 0x80 <= first < 0x90:
        assert sniff(bytes([first])) is MSGPACK
        return
    with pytest.raises(InvalidArgument, match="JSON object or a msgpack map"):
        sniff(bytes([first]))


@BOTH
@pytest.mark.parametrize(
    ("type_", "value", "field", "message"),
    [
        (Line, {"sku": 1}, "sku", "field 'sku': expected str, got int"),
        (Line, {}, "sku", "field 'sku' is missing"),
        (Line, {"sku": "", "x": 1}, "x", "field 'x' is not known"),
        (Line, [], "", "the request: expected object, got array"),
        (
            Order,
            {"lines": [{"sku": ""}, {"sku": None}]},
            "lines[1].sku",
            "field 'lines[1].sku': expected str, got null",
        ),
        (
            Order,
            {"lines": [{}]},
            "lines[0].sku",
            "field 'lines[0].sku' is missing",
        ),
        (
            dict[str, int],
            {"a": "1"},
            "[...]",
            "field '[...]': expected int, got str",
        ),
        (
            Annotated[int, msgspec.Meta(ge=3)],
            2,
            "",
            "the request: expected int >= 3",
        ),
    ],
)
def test_wrong_value_is_refused_by_its_path_and_what_was_expected(
    codec, type_, value, field, message
):
    """The error has the path as a fact, and both path and expectation as text."""
    error = refused(codec, type_, codec.encoder()(value))
    assert (error.field, str(error)) == (field, message)


def test_choices_are_listed_when_a_name_or_value_is_none_of_them():
    """With `choices`, the error says what could have stood there."""

    def choices(path: str) -> list[str]:
        return {"": ["sku", "size"], "size": ["s", "m"]}[path]

    for body, expected in [
        (b'{"sku":"","x":1}', "field 'x' is not known; known fields: sku, size"),
        (
            b'{"sku":"","size":"xl"}',
            "field 'size': invalid enum value 'xl'; expected one of s, m",
        ),
    ]:
        with pytest.raises(DECODE_ERRORS) as caught:
            JSON.decoder(Line)(body)
        assert str(translate(caught.value, "json", choices)) == expected


@pytest.mark.parametrize(
    ("codec", "data", "message"),
    [
        (JSON, b'{"a":', "the body is not valid json: input data was truncated"),
        (JSON, b'{"a":NaN}', "the body is not valid json: invalid character (byte 5)"),
        (JSON, b'"\xff"', "the body is not valid json: a text is not UTF-8"),
        (JSON, b"[" * 9999, "the body is not valid json: it is nested too deeply"),
        (JSON, b"{} {}", "the body is not valid json: trailing characters (byte 4)"),
        (MSGPACK, b"\x81", "the body is not valid msgpack: input data was truncated"),
        (MSGPACK, b"\xa1\xff", "the body is not valid msgpack: a text is not UTF-8"),
        (
            MSGPACK,
            b"\x91" * 9999,
            "the body is not valid msgpack: it is nested too deeply",
        ),
    ],
)
def test_malformed_body_is_refused_in_words(codec, data, message):
    """What is not even the codec's own form says so, and why."""
    assert str(refused(codec, Any, data)) == message


def test_key_of_the_wrong_type_is_said_to_be_a_key():
    """The error tells a bad key from a bad value."""
    error = refused(JSON, dict[int, int], b'{"a":1}')
    assert str(error) == "the request: expected int, got str as a key"


@pytest.mark.parametrize(
    ("type_", "data"),
    [
        (Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)], b"9" * 30),
        (int, b"9" * 5000),
    ],
)
def test_huge_integer_is_refused_as_one(type_, data):
    """The error speaks of 64 bits, not of a bound with nineteen digits."""
    assert str(refused(JSON, type_, data)) == "the request: expected a 64-bit integer"


@BOTH
@pytest.mark.parametrize("value", [object(), 1j, [{"a": object}], "\ud800"])
def test_value_without_a_wire_form_raises_an_encode_error(codec, value):
    """Every failure to encode is one of `ENCODE_ERRORS`."""
    with pytest.raises(ENCODE_ERRORS):
        codec.encoder()(value)


def test_value_without_a_wire_form_is_named():
    """The error says which type could not be written."""
    with pytest.raises(TypeError, match="type object has no wire form"):
        JSON.encoder()([object()])


def test_integer_over_64_bits_has_no_msgpack_form():
    """The format ends at 64 bits, and says so as an encode error."""
    with pytest.raises(ENCODE_ERRORS):
        MSGPACK.encoder()(2**64)


@pytest.mark.parametrize("value", [b"x", bytearray(b"x"), memoryview(b"x")])
def test_raw_carries_bytes_as_they_are(value):
    """RAW is the identity on anything like bytes."""
    assert RAW.encoder(type(value))(value) == b"x"
    assert RAW.decoder(type(value))(b"x") == value


def test_raw_refuses_types_and_values_that_are_not_bytes():
    """RAW says at once that it cannot carry a type, or a value."""
    with pytest.raises(TypeError, match="carries bytes only, not str"):
        RAW.decoder(str)
    with pytest.raises(TypeError, match="expected bytes, got str"):
        RAW.encoder(bytes)("x")


VALUES: list[Any] = [
    None,
    True,
    0,
    -(2**63),
    2**64 - 1,
    1.5,
    -0.0,
    math.pi,
    "",
    "Grüße, 世界 🌍",
    [1, [2, []]],
    {"a": {"b": [None, False]}},
    list(range(70_000)),
    "x" * 70_000,
]


@pytest.mark.parametrize(
    "value", [*VALUES, b"\x00\xff", {1: 2}], ids=lambda v: str(v)[:9]
)
def test_msgpack_is_what_other_msgpack_libraries_read_and_write(value):
    """Our bytes and those of the `msgpack` package mean the same."""
    ours = MSGPACK.encoder()(value)
    assert msgpack.unpackb(ours, strict_map_key=False) == value
    theirs = msgpack.packb(value)
    assert MSGPACK.decoder()(theirs) == value
    assert ours == theirs


def test_msgpack_times_are_text_and_timestamps_are_read():
    """Text keeps the offset; a timestamp of another library is taken as well."""
    time = datetime.datetime(2024, 2, 29, 12, 30, 1, 250_000, tzinfo=datetime.UTC)
    data = MSGPACK.encoder()(time)
    assert msgpack.unpackb(data) == "2024-02-29T12:30:01.250000Z"
    assert (
        MSGPACK.decoder(datetime.datetime)(msgpack.packb(time, datetime=True)) == time
    )


_OFFSETS = [
    datetime.timezone(datetime.timedelta(hours=h, minutes=m))
    for h, m in ((14, 0), (5, 45), (0, 0), (-12, 0), (-3, 30))
]


@BOTH
@pytest.mark.parametrize("offset", _OFFSETS, ids=str)
@pytest.mark.parametrize("year", [1, 1970, 9999])
def test_times_keep_their_offset(codec, offset, year):
    """Wherever they stand, to the ends of the calendar."""
    day = 1 if year == 1 else 31
    month = 1 if year == 1 else 12
    time = datetime.datetime(year, month, day, 23 if year > 1 else 0, tzinfo=offset)
    for value, type_ in (
        (time, datetime.datetime),
        ([time], list[datetime.datetime]),
        ({"a": time}, dict[str, datetime.datetime]),
        ({time: 1}, dict[datetime.datetime, int]),
        ({"a": [time]}, dict[str, Any]),
    ):
        twin = codec.decoder(type_)(codec.encoder(type_)(value))
        assert "".join(str(twin).split()) in (
            "".join(str(value).split()),
            "".join(str({"a": [time.isoformat().replace("+00:00", "Z")]}).split()),
        )


@dataclasses.dataclass
class Everything:
    """One field of each rich type."""

    when: datetime.datetime
    amount: Decimal
    id: UUID
    blob: bytes
    tags: set[str]
    pair: tuple[int, str]


@BOTH
def test_rich_types_come_back_equal(codec):
    """Times, decimals, ids, bytes and containers survive both codecs."""
    value = Everything(
        datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
        Decimal("0.10"),
        UUID(int=7),
        b"\x00\xff",
        {"a", "b"},
        (1, "x"),
    )
    assert codec.decoder(Everything)(codec.encoder(Everything)(value)) == value


def test_pydantic_is_not_imported_unless_it_is_used():
    """Encoding and decoding without models leaves pydantic alone."""
    script = (
        "import sys\n"
        "from kitmsg.codec import JSON, MSGPACK\n"
        "from kitmsg.schema import signature\n"
        "def f(a: int) -> str: ...\n"
        "signature(f).request_decoder(JSON)(b'{\"a\":1}')\n"
        "try: MSGPACK.encoder()(object())\n"
        "except TypeError: pass\n"
        "sys.exit('pydantic' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
