"""Bytes to typed objects and back: msgpack, JSON and raw.

    MSGPACK        what kitmsg peers speak with each other
    JSON           what people and foreign clients type
    RAW            bytes as they are

    faults.py      what a decoder raised, as an `InvalidArgument` that names the field
    models.py      pydantic models: read in validation mode, written in serialization mode
    parts.py       the parts that a type is made of: times, models, classes

msgspec does the typed work; pydantic models are read and written where a type in use is
one, and pydantic is not imported otherwise.  This module knows nothing of signatures:
what an endpoint accepts beyond its types is `kitmsg.schema`'s.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from kitmsg.codec.faults import (
    Choices,
    FieldError,
    as_step,
    join,
    refusal,
    translate,
    unknown_field,
)
from kitmsg.codec.models import (
    is_pydantic,
    load_model,
    read_model,
    schema_generator,
    send_model,
    write_model,
    write_model_strictly,
)
from kitmsg.codec.parts import children, holds_times, holds_two_forms, reached
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
    "FieldError",
    "as_step",
    "by_content_type",
    "children",
    "is_pydantic",
    "join",
    "reached",
    "refusal",
    "request_encoder",
    "response_decoder",
    "schema_generator",
    "sniff",
    "sniff_reply",
    "strict_encoder",
    "translate",
    "unknown_field",
    "write_model",
]

DECODE_ERRORS: Final = (
    msgspec.DecodeError,
    RecursionError,
    OverflowError,
    UnicodeDecodeError,
)
"""Exceptions of decoders for bad input; `translate` makes each an `InvalidArgument`."""

ENCODE_ERRORS: Final = (TypeError, ValueError, OverflowError, RecursionError)
"""Exceptions of encoders for a value that has no form on the wire."""


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


_Write: TypeAlias = Callable[[Any], Any]
_Read: TypeAlias = Callable[[Any, Any], Any]
_BYTES: Final = (bytes, bytearray, memoryview)


class _Msgpack:
    """MessagePack: small, and bytes have a type of their own.

    Times are text as in JSON: MessagePack's timestamp has no offset, and ends before the
    calendar does.  A timestamp that comes in is read as one.
    """

    __slots__ = ()
    name: Final = "msgpack"
    content_type: Final = "application/msgpack"

    def encoder(
        self, type_: Any = Any, *, hook: _Write = write_model
    ) -> Callable[[Any], bytes]:
        write = msgspec.msgpack.Encoder(enc_hook=hook).encode
        if not holds_times(type_):
            return write
        plain = functools.partial(
            msgspec.to_builtins, builtin_types=_BYTES, enc_hook=hook
        )
        return lambda value: write(plain(value))

    def decoder(
        self, type_: Any = Any, *, hook: _Read = read_model
    ) -> Callable[[bytes], Any]:
        return msgspec.msgpack.Decoder(type_, dec_hook=hook).decode


class _Json:
    """JSON; bytes are base64 text, times RFC 3339 text, NaN and Infinity null."""

    __slots__ = ()
    name: Final = "json"
    content_type: Final = "application/json"

    def encoder(
        self, type_: Any = Any, *, hook: _Write = write_model
    ) -> Callable[[Any], bytes]:
        return msgspec.json.Encoder(enc_hook=hook).encode

    def decoder(
        self, type_: Any = Any, *, hook: _Read = read_model
    ) -> Callable[[bytes], Any]:
        return msgspec.json.Decoder(type_, dec_hook=hook).decode


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


def request_encoder(codec: Codec, type_: Any) -> Callable[[Any], bytes]:
    """Return an encoder of requests: pydantic models as their validation takes them."""
    if isinstance(codec, (_Msgpack, _Json)) and holds_two_forms(type_):
        return codec.encoder(type_, hook=send_model)
    return codec.encoder(type_)


def response_decoder(codec: Codec, type_: Any) -> Callable[[bytes], Any]:
    """Return a decoder of results: pydantic models as they were serialized."""
    if isinstance(codec, (_Msgpack, _Json)) and holds_two_forms(type_):
        return codec.decoder(type_, hook=load_model)
    return codec.decoder(type_)


def strict_encoder(codec: Codec, type_: Any) -> Callable[[Any], bytes]:
    """Return an encoder that refuses a pydantic model with a field that misfits."""
    if isinstance(codec, (_Msgpack, _Json)):
        return codec.encoder(type_, hook=write_model_strictly)
    return codec.encoder(type_)


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
_FIRST_PACKED: Final = 0x80  # below are small numbers, each a whole value of one byte


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


def sniff_reply(data: bytes, asked: Codec) -> Codec:
    """Return the codec of a reply that came without a ``Content-Type``.

    It is the request's, unless its first byte cannot be: what is longer than a byte and
    begins below 0x80 is no msgpack, what begins at 0x80 or above no JSON.  A single byte
    is read as the request's.

    Args:
        data: The reply.
        asked: Codec of the request.
    """
    if asked is MSGPACK and len(data) > 1 and data[0] < _FIRST_PACKED:
        return JSON
    if asked is JSON and data and data[0] >= _FIRST_PACKED:
        return MSGPACK
    return asked


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
