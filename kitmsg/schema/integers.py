"""Integers that are written as ``19209.0`` or ``1e0``.

JSON Schema says that they are integers, and some clients write all numbers so; msgspec says
that they are floats.  A body that was refused for that is written again, and decoded once
more; any other never comes here.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import msgspec

from kitmsg.codec import DECODE_ERRORS

__all__ = ["with_integers"]

_DIGITS: Final = 20
_EXACT: Final = 2**53


def with_integers(data: bytes, codec: str, error: BaseException) -> bytes | None:
    """Return a body with whole numbers as integers; None if that was not its problem.

    Args:
        data: The body.
        codec: Name of its codec.
        error: What the decoder raised.
    """
    said = str(error)
    if "got `float`" not in said or "`int" not in said:
        return None
    try:
        again = _rewritten(data, codec)
    except DECODE_ERRORS:  # behind the number, it is broken
        return None
    return None if again == data else again


def _rewritten(data: bytes, codec: str) -> bytes:
    if codec == "json":
        plain = msgspec.json.Decoder(float_hook=_number).decode(data)
        return msgspec.json.encode(plain)
    return msgspec.msgpack.encode(_whole(msgspec.msgpack.decode(data)))


def _number(text: str) -> Any:
    """Return a JSON number as an integer if it is one, else as it was written."""
    value = Decimal(text)
    if value.adjusted() < _DIGITS and value == value.to_integral_value():
        return int(value)
    return msgspec.Raw(text.encode())


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return int(value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    return value
