"""Bytes to typed objects and back: msgpack, JSON and raw.

    MSGPACK   what kitmsg peers speak with each other
    JSON      what people and foreign clients type
    RAW       bytes as they are

msgspec does the typed work; pydantic models are read and written where a type in use is
one, and pydantic is not imported otherwise.  This module knows nothing of signatures:
what an endpoint accepts beyond its types is `kitmsg.schema`'s.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from kitmsg.errors import InvalidArgument
from kitmsg.wire import CONTENT_TYPE

__all__ = [
    "DECODE_ERRORS",
    "ENCODE_ERRORS",
    "JSON",
    "MSGPACK",
    "RAW",
    "Choices",
    "Codec",
    "by_content_type",
    "is_pydantic",
    "sniff",
    "translate",
]

Choices: TypeAlias = Callable[[str], Sequence[str]]
"""Takes the path of a field; returns the names or values that may stand there."""

DECODE_ERRORS: Final = (
    msgspec.DecodeError,
    RecursionError,
    OverflowError,
    UnicodeDecodeError,
)
"""What a decoder raises for bad input; `translate` makes each an `InvalidArgument`."""

ENCODE_ERRORS: Final = (TypeError, ValueError, OverflowError, RecursionError)
"""What an encoder raises for a value that has no form on the wire."""


class Codec(Protocol):
    """One encoding.

    Encoders and decoders are built once and kept; both are safe to share.
    """

    @property
    def name(self) -> str:
        """``msgpack``, ``json`` or ``raw``."""
        ...

    @property
    def content_type(self) -> str:
        """The value of ``Content-Type`` that stands for it."""
        ...

    def encoder(self, type_: Any = Any) -> Callable[[Any], bytes]:
        """Return a function from objects of `type_` to bytes.

        It does not check that its argument is a `type_`.  It raises one of
        `ENCODE_ERRORS` for a value that has no form on the wire.

        Raises:
            TypeError: The codec cannot carry `type_`.
        """
        ...

    def decoder(self, type_: Any = Any) -> Callable[[bytes], Any]:
        """Return a function from bytes to objects of `type_`, checked.

        It raises one of `DECODE_ERRORS` for bytes that do not fit.

        Raises:
            TypeError: The codec cannot carry `type_`.
        """
        ...


class _Msgpack:
    """MessagePack: small, and bytes and times have types of their own."""

    __slots__ = ()
    name: Final = "msgpack"
    content_type: Final = "application/msgpack"

    def encoder(self, type_: Any = Any) -> Callable[[Any], bytes]:
        return msgspec.msgpack.Encoder(enc_hook=_write_custom).encode

    def decoder(self, type_: Any = Any) -> Callable[[bytes], Any]:
        return msgspec.msgpack.Decoder(type_, dec_hook=_read_custom).decode


class _Json:
    """JSON; bytes are base64 text, times RFC 3339 text, NaN and Infinity null."""

    __slots__ = ()
    name: Final = "json"
    content_type: Final = "application/json"

    def encoder(self, type_: Any = Any) -> Callable[[Any], bytes]:
        return msgspec.json.Encoder(enc_hook=_write_custom).encode

    def decoder(self, type_: Any = Any) -> Callable[[bytes], Any]:
        return msgspec.json.Decoder(type_, dec_hook=_read_custom).decode


class _Raw:
    """Bytes in, bytes out; for `bytes`, `bytearray` and `memoryview` only."""

    __slots__ = ()
    name: Final = "raw"
    content_type: Final = "application/octet-stream"

    def encoder(self, type_: Any = bytes) -> Callable[[Any], bytes]:
        _need_bytes(type_)
        return _to_bytes

    def decoder(self, type_: Any = bytes) -> Callable[[bytes], Any]:
        _need_bytes(type_)
        constructor: Callable[[bytes], Any] = type_
        return constructor


MSGPACK: Final[Codec] = _Msgpack()
JSON: Final[Codec] = _Json()
RAW: Final[Codec] = _Raw()

_BY_CONTENT_TYPE: Final = {
    "application/msgpack": MSGPACK,
    "application/x-msgpack": MSGPACK,
    "application/vnd.msgpack": MSGPACK,
    "application/json": JSON,
    "text/json": JSON,
    "application/octet-stream": RAW,
}
_JSON_SUFFIX = re.compile(r"application/[^\s/]+\+json")


def by_content_type(value: str) -> Codec:
    """Return the codec that a ``Content-Type`` names; parameters and case do not count.

    Raises:
        InvalidArgument: No codec has that name; the message lists those that exist.
    """
    kind = value.partition(";")[0].strip().lower()
    codec = _BY_CONTENT_TYPE.get(kind)
    if codec is not None:
        return codec
    if _JSON_SUFFIX.fullmatch(kind):
        return JSON
    known = ", ".join(c.content_type for c in (MSGPACK, JSON, RAW))
    raise InvalidArgument(
        f"unknown content type {value[:80]!r}; use one of {known}", field=CONTENT_TYPE
    )


_MSGPACK_MAPS: Final = frozenset([*range(0x80, 0x90), 0xDE, 0xDF])
_JSON_START: Final = frozenset(b"{ \t\r\n")


def sniff(data: bytes) -> Codec:
    """Return the codec of a request that came without a ``Content-Type``.

    A request is always a map, so its first byte tells: ``{`` or white space is JSON, a
    fixmap, map16 or map32 is msgpack.  An empty body is an empty JSON request.

    Raises:
        InvalidArgument: The body begins like neither.
    """
    if not data or data[0] in _JSON_START:
        return JSON
    if data[0] in _MSGPACK_MAPS:
        return MSGPACK
    raise InvalidArgument(
        f"the body begins with {data[:1]!r}; without a Content-Type it must be a JSON"
        " object or a msgpack map"
    )


_AT_KEY = re.compile(r"(?s)(.*) - at `key` in `\$(.*)`")
_AT_PATH = re.compile(r"(?s)(.*) - at `\$(.*)`")
_NAMED = re.compile(
    r"Object (missing required|contains unknown) field `(.*)`", re.DOTALL
)
_INT64 = re.compile(r"Expected `int` (>= -9223372036854775808|<= 9223372036854775807)")
_FINITE = re.compile(r"Expected `float` (>= -|<= )1\.7976931348623157e\+308")
_OUT_OF_RANGE = {
    "Integer value out of range": "expected a 64-bit integer",
    "Number out of range": "expected a finite number",
}


def translate(
    error: BaseException, codec: str, choices: Choices | None = None
) -> InvalidArgument:
    """Return the error a caller should see for one of `DECODE_ERRORS`.

    Args:
        error: What the decoder raised.
        codec: Name of the codec, for bodies that are not even well-formed.
        choices: Looks up what is allowed at a path; None leaves that out.
    """
    if not isinstance(error, msgspec.ValidationError):
        return InvalidArgument(f"the body is not valid {codec}: {_plain(error)}")
    problem, path = _split(str(error))
    inner = error.__cause__
    if isinstance(inner, FieldError):
        return refusal(join(path, inner.field), inner.problem)
    named = _NAMED.fullmatch(problem)
    if named is None:
        return refusal(path, _expectation(problem, path, choices))
    known = choices(path) if choices else ()
    return _named(join(path, named[2]), named[1] == "contains unknown", known)


def _named(field: str, is_unknown: bool, known: Sequence[str]) -> InvalidArgument:
    """Return the error for a field that is not known, or not there."""
    if not is_unknown:
        return refusal(field, "is missing")
    return refusal(field, unknown_field(known))


def unknown_field(known: Sequence[str]) -> str:
    """Return what is wrong with a field that is none of `known`."""
    return "is not known" + (f"; known fields: {', '.join(known)}" if known else "")


def refusal(field: str, problem: str) -> InvalidArgument:
    """Return an `InvalidArgument` whose message begins with the field it is about."""
    where = f"field {field!r}" if field else "the request"
    verb = problem.startswith("is ")
    return InvalidArgument(f"{where}{' ' if verb else ': '}{problem}", field=field)


def join(path: str, tail: str) -> str:
    """Return `path` with `tail` (a name, or an index in brackets) at its end."""
    return path + tail if not path or not tail or tail[0] == "[" else f"{path}.{tail}"


def _split(message: str) -> tuple[str, str]:
    """Return the problem and the dotted path of a message of msgspec's."""
    key = _AT_KEY.fullmatch(message)
    if key is not None:
        return f"{key[1]} as a key", key[2].removeprefix(".")
    at = _AT_PATH.fullmatch(message)
    return (at[1], at[2].removeprefix(".")) if at is not None else (message, "")


def _expectation(problem: str, path: str, choices: Choices | None) -> str:
    if _INT64.match(problem):
        return "expected a 64-bit integer"
    if _FINITE.match(problem):
        return "expected a finite number"
    if problem in _OUT_OF_RANGE:
        return _OUT_OF_RANGE[problem]
    text = problem.replace("`None`", "null").replace("`", "")
    allowed = choices(path) if choices and problem.startswith("Invalid enum") else ()
    tail = f"; expected one of {', '.join(allowed)}" if allowed else ""
    return text[:1].lower() + text[1:] + tail


def _plain(error: BaseException) -> str:
    """Return what a low-level error says, without the codec's own preface."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "a text is not UTF-8"
    text = str(error)
    for preface in ("JSON is malformed: ", "MessagePack data is malformed: "):
        text = text.removeprefix(preface)
    return text[:1].lower() + text[1:]


class FieldError(ValueError):
    """A problem inside an object that msgspec leaves to a hook.

    Args:
        field: Path below that object.
        problem: What was expected.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(problem)
        self.field = field
        self.problem = problem


def is_pydantic(type_: Any) -> bool:
    """Tell whether `type_` is a pydantic model; does not import pydantic."""
    pydantic = sys.modules.get("pydantic")
    return (
        pydantic is not None
        and isinstance(type_, type)
        and issubclass(type_, pydantic.BaseModel)
    )


def _write_custom(value: Any) -> Any:
    """Return a form that msgspec knows, of a value that it does not."""
    if is_pydantic(type(value)):
        return value.model_dump(mode="json", by_alias=True)
    raise TypeError(f"an object of type {_type_name(value)} has no wire form")


def _read_custom(type_: Any, value: Any) -> Any:
    """Return `value`, the plain form of a pydantic model, as a `type_`.

    The model sees JSON, in strict mode: text is a date where a date is wanted, but
    never an int.
    """
    if not is_pydantic(type_):
        raise TypeError(f"{type_} has no wire form")
    try:
        return type_.model_validate_json(msgspec.json.encode(value), strict=True)
    except sys.modules["pydantic"].ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise _pydantic_problem(first) from None


def _pydantic_problem(first: dict[str, Any]) -> FieldError:
    path = ""
    for step in first["loc"]:
        path = join(path, f"[{step}]" if isinstance(step, int) else str(step))
    if first["type"] == "missing":
        return FieldError(path, "is missing")
    if first["type"] == "extra_forbidden":
        return FieldError(path, "is not known")
    message = str(first["msg"])
    return FieldError(path, message[:1].lower() + message[1:])


def _need_bytes(type_: Any) -> None:
    if type_ not in (bytes, bytearray, memoryview):
        name = getattr(type_, "__name__", str(type_))
        raise TypeError(f"application/octet-stream carries bytes only, not {name}")


def _to_bytes(value: Any) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise TypeError(f"expected bytes, got {_type_name(value)}")


def _type_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix(
        "builtins."
    )
