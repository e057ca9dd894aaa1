"""Which types travel, and the bounds of numbers in them."""

from __future__ import annotations

import pytest

from kitmsg.codec import JSON
from kitmsg.errors import InvalidArgument
from kitmsg.schema import signature


async def either(given: int | tuple[str, int]) -> None:
    """Take a number or a pair."""


def test_a_number_beside_a_tuple_is_read_and_bounded() -> None:
    """Bounds beside a tuple would make msgspec read past memory."""
    decode = signature(either).request_decoder(JSON)
    assert decode(b'{"given": ["a", 1]}').given == ("a", 1)
    assert decode(b'{"given": 5}').given == 5
    with pytest.raises(InvalidArgument, match="64-bit"):
        decode(b'{"given": 9223372036854775808}')
