"""Plain values of one kind each, those of messages, and the error of one that does not fit."""

from __future__ import annotations

import base64
import binascii
import datetime
import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final

import msgspec
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from kitmsg.codec import refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    from kitmsg_gateways.grpc.layout import Layout, Message

    Convert: TypeAlias = Callable[[Any], Any]

__all__ = [
    "DECODERS",
    "DURATION",
    "ENCODERS",
    "TIMESTAMP",
    "Coders",
    "Misfit",
    "decode_any",
    "encode_any",
    "encode_bytes",
    "encode_text",
    "key_text",
    "located",
    "position",
    "spell",
]

_EXACT: Final = 2**53  # a double holds every integer up to here


class Misfit(ValueError):
    """A value that does not fit its message, or a message its value.

    Args:
        problem: The rest of a sentence that begins with the name of a field.
        path: Where, such as ``lines[2].sku``.
    """

    def __init__(self, problem: str, path: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.path = path

    def __str__(self) -> str:
        if self.path:
            return str(refusal(self.path, self.problem))
        link = " " if self.problem.startswith(("is ", "does ", "holds ")) else ": "
        return f"the message{link}{self.problem}"

    def at(self, step: str) -> Misfit:
        """Return it as seen from one level up; `step` is a key, or ``[2]``."""
        dot = "." if self.path and not self.path.startswith("[") else ""
        return Misfit(self.problem, f"{step}{dot}{self.path}")


class Coders(ABC):
    """Functions of one direction for the messages of a layout, made when first asked for.

    Args:
        layout: The messages.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._made: dict[str, Convert] = {}

    def of(self, name: str) -> Convert:
        """Return the function of a message; it raises `Misfit`.

        Raises:
            KeyError: There is no such message.
        """
        if name not in self._made:
            self._made[name] = self._make(self._layout.messages[name])
        return self._made[name]

    @abstractmethod
    def _make(self, message: Message) -> Convert: ...

    def _late(self, name: str) -> Convert:
        """Return a call of the function of a message, which may be in the making."""
        made: Convert | None = None

        def convert(value: Any) -> Any:
            nonlocal made
            if made is None:
                made = self.of(name)
            return made(value)

        return convert


def position(key: str) -> int:
    """Return the position of an array's item, of its key ``item_1``."""
    return int(key.rpartition("_")[2]) - 1


def located(convert: Callable[[Any], Any], items: Iterable[Any]) -> Misfit:
    """Return the misfit of the first item that `convert` refuses, with its place."""
    for index, item in enumerate(items):
        try:
            convert(item)
        except Misfit as error:
            return error.at(f"[{index}]")
    return Misfit("does not fit")


def encode_text(value: Any) -> str:
    """Return text; msgpack has times that are none."""
    if type(value) is str:
        return value
    if isinstance(value, datetime.datetime):
        return str(msgspec.to_builtins(value))
    raise Misfit(f"expected text, got {spell(value)}")


def encode_bytes(value: Any) -> bytes:
    """Return bytes; in JSON they are base64 text."""
    if type(value) is bytes:
        return value
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error:
            raise Misfit("is not base64") from None
    raise Misfit(f"expected bytes, got {spell(value)}")


def decode_any(value: Any) -> Any:
    """Return a ``google.protobuf.Value`` as a plain value; whole numbers are integers."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        fields = value.struct_value.fields
        return {key: decode_any(item) for key, item in fields.items()}
    if kind == "list_value":
        return [decode_any(item) for item in value.list_value.values]
    if kind == "number_value":
        return _number(value.number_value)
    return None if kind in (None, "null_value") else getattr(value, kind)


def _number(value: float) -> float | int:
    if not math.isfinite(value):
        raise Misfit("expected a finite number")
    return int(value) if value.is_integer() and abs(value) <= _EXACT else value


def encode_any(type_: type[Any], value: Any) -> Any:
    """Return a plain value as a ``google.protobuf.Value``."""
    message = type_()
    try:
        _fill(message, msgspec.to_builtins(value, str_keys=True))
    except RecursionError:
        raise Misfit("is nested too deeply") from None
    return message


def _fill(message: Any, value: Any) -> None:
    if isinstance(value, dict):
        message.struct_value.SetInParent()
        fields = message.struct_value.fields
        for key, item in value.items():
            _fill(fields[key], item)
    elif isinstance(value, list):
        message.list_value.SetInParent()
        for item in value:
            _fill(message.list_value.values.add(), item)
    elif value is None:
        message.null_value = 0
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, str):
        message.string_value = value
    else:
        message.number_value = _double(value)


def _double(value: Any) -> float:
    if not isinstance(value, float) and abs(value) > _EXACT:
        raise Misfit(f"{value} is not exact in a double; declare the field's type")
    return float(value)


def key_text(key: Any) -> str:
    """Return a key of a map as JSON has it."""
    try:
        return str(next(iter(msgspec.to_builtins({key: None}, str_keys=True))))
    except TypeError:
        raise Misfit(f"{spell(key)} cannot be a key") from None


def spell(value: Any) -> str:
    """Return the name of a value's type in JSON."""
    names = {dict: "an object", list: "an array", str: "text", type(None): "null"}
    return names.get(type(value), type(value).__name__)


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
