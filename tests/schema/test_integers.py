"""Whole numbers are integers, however they are written."""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import Struct

from kitmsg import Kit, Service, endpoint
from kitmsg.codec import JSON, MSGPACK, Codec
from kitmsg.errors import DataLoss, InvalidArgument
from kitmsg.schema import signature

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Level(enum.IntEnum):
    LOW = 1


class Deep(Struct):
    n: int
    ratio: float = 0.0
    price: Decimal = Decimal(0)
    items: list[int | None] = []
    level: Level = Level.LOW
    named: dict[str, int] = {}


async def echo(n: int, deep: Deep | None = None) -> int:
    """Return it."""
    return n if deep is None else deep.n


@pytest.mark.parametrize("text", ["19209.0", "1.9209e4", "192090e-1", "19209"])
def test_whole_numbers_are_integers(text: str) -> None:
    """As JSON Schema has it; at any depth."""
    decode = signature(echo).request_decoder(JSON)
    body = (
        f'{{"n":{text},"deep":{{"n":{text},"ratio":1.5,"price":1.10,'
        f'"items":[{text},null],"level":1.0,"named":{{"a":{text}}}}}}}'
    )
    read = decode(body.encode())
    assert (read.n, type(read.n)) == (19209, int)
    assert read.deep == Deep(
        19209, 1.5, Decimal("1.10"), [19209, None], Level.LOW, {"a": 19209}
    )
    assert str(read.deep.price) == "1.10"


@pytest.mark.parametrize("text", ["1.5", "1e30", "1e-1", "NaN", '"1.0"'])
def test_other_numbers_are_not(text: str) -> None:
    """The field is named as before."""
    decode = signature(echo).request_decoder(JSON)
    with pytest.raises(InvalidArgument, match=r"field 'n'|not valid json"):
        decode(f'{{"n":{text}}}'.encode())


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=lambda codec: codec.name)
def test_a_body_that_is_broken_behind_the_number(codec: Codec) -> None:
    """Is refused as before."""
    body = codec.encoder(Any)({"n": 1.0, "deep": None})[:-1]
    with pytest.raises(InvalidArgument):
        signature(echo).request_decoder(codec)(body)


def test_a_number_without_end() -> None:
    """Is not read twice again and again, and is no integer of a million digits."""
    decode = signature(echo).request_decoder(JSON)
    with pytest.raises(InvalidArgument, match="field 'n'"):
        decode(b'{"n":1e1000000}')
    with pytest.raises(InvalidArgument, match="field 'n'"):
        decode(b'{"n":0.' + b"0" * 10_000 + b"}1")


def test_digits_beyond_a_float_are_kept() -> None:
    """The text is read, not a float of it."""
    decode = signature(echo).request_decoder(JSON)
    assert decode(b'{"n":9007199254740993.0}').n == 9007199254740993
    with pytest.raises(InvalidArgument, match="field 'n': expected a 64-bit integer"):
        decode(b'{"n":9223372036854775808.0}')


def test_rules_hold_for_a_body_that_is_read_again() -> None:
    """Unknown fields are refused in it too."""
    decode = signature(echo).request_decoder(JSON)
    with pytest.raises(InvalidArgument, match="'deep.other' is not known"):
        decode(b'{"n":1.0,"deep":{"n":1.0,"other":2}}')


def test_messagepack_is_the_same() -> None:
    """Of clients whose numbers are all floats."""
    decode = signature(echo).request_decoder(MSGPACK)
    assert decode(MSGPACK.encoder(Any)({"n": 3.0})).n == 3
    with pytest.raises(InvalidArgument, match="field 'n'"):
        decode(MSGPACK.encoder(Any)({"n": 3.5}))


class Sums(Service):
    """A prop."""

    @endpoint
    async def total(self, numbers: AsyncIterator[int]) -> int:
        return sum([n async for n in numbers])


async def test_replies_and_items_are_the_same(kit: Kit) -> None:
    """A service in another language may write its results so."""
    decode = signature(echo).response_decoder(JSON)
    assert decode(b"3.0") == 3
    with pytest.raises(DataLoss):
        decode(b"3.5")
    await kit.serve(Sums())

    async def numbers() -> AsyncIterator[Any]:
        for n in (1.0, 2.0):
            yield n

    assert await kit.client(Sums).total(numbers()) == 3
