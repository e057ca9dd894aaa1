"""``google.protobuf.Timestamp`` and ``Duration`` as text, for a .proto that has them.

Generated messages have text in their place, which keeps zones and every digit.  A
timestamp comes as RFC 3339 in UTC and goes from any zone; a duration is ISO 8601.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from kitmsg_gateways.grpc.values import Misfit, spell

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DECODERS", "DURATION", "ENCODERS", "TIMESTAMP"]

TIMESTAMP: Final = "google.protobuf.Timestamp"
DURATION: Final = "google.protobuf.Duration"
_BILLION: Final = 10**9


def decode_timestamp(message: Any) -> str:
    """Return a timestamp as RFC 3339 text."""
    try:
        return str(message.ToJsonString())
    except (ValueError, OverflowError):
        raise Misfit("is no time between the years 1 and 9999") from None


def encode_timestamp(value: Any) -> dict[str, int]:
    """Return the fields of the timestamp that a time with a zone is."""
    if not isinstance(value, datetime.datetime):
        value = _converted(value, datetime.datetime, "RFC 3339 text with a zone")
    if value.tzinfo is None:
        raise Misfit("expected a time with a zone")
    made = Timestamp()
    made.FromDatetime(value.astimezone(datetime.UTC))
    return {"seconds": made.seconds, "nanos": made.nanos}


def decode_duration(message: Any) -> str:
    """Return a duration as ISO 8601 text."""
    total = message.seconds * _BILLION + message.nanos
    seconds, nanos = divmod(abs(total), _BILLION)
    fraction = f".{nanos:09d}".rstrip("0") if nanos else ""
    return f"{'-' if total < 0 else ''}PT{seconds}{fraction}S"


def encode_duration(value: Any) -> dict[str, int]:
    """Return the fields of a duration."""
    if not isinstance(value, datetime.timedelta):
        value = _converted(value, datetime.timedelta, "ISO 8601 text")
    made = Duration()
    made.FromTimedelta(value)
    return {"seconds": made.seconds, "nanos": made.nanos}


def _converted(value: Any, type_: type[Any], wanted: str) -> Any:
    if not isinstance(value, str):
        raise Misfit(f"expected {wanted}, got {spell(value)}")
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError:
        raise Misfit(f"expected {wanted}, got {value[:40]!r}") from None


DECODERS: Final[dict[str, Callable[[Any], Any]]] = {
    TIMESTAMP: decode_timestamp,
    DURATION: decode_duration,
}
ENCODERS: Final[dict[str, Callable[[Any], Any]]] = {
    TIMESTAMP: encode_timestamp,
    DURATION: encode_duration,
}
