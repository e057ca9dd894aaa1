"""Header names, and errors as headers: what stands beside the payload on the wire.

`docs/protocol.md` states all of it with examples.  Source of the ``Nats-Service-Error``
headers: NATS ADR-32, "Error Handling".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from kitmsg.codec import JSON, MSGPACK, Codec, by_content_type
from kitmsg.errors import (
    Code,
    DataLoss,
    InvalidArgument,
    KitError,
    code_of,
    error_for,
)
from kitmsg.message import Headers, Message, encode_headers
from kitmsg.schema import error_codec

__all__ = [
    "CALLER",
    "CANCEL",
    "CODE",
    "CONTENT_TYPE",
    "ERROR",
    "FIELD",
    "REQUEST_ID",
    "RETRY_AFTER",
    "SERVICE_ERROR",
    "SERVICE_ERROR_CODE",
    "TIMEOUT",
    "Declared",
    "ErrorTypes",
    "declaration",
    "decode_error",
    "encode_error",
    "error_code",
    "one_line",
    "plain_headers",
    "reply_codec",
    "reply_headers",
    "timeout_ms",
]

CONTENT_TYPE: Final = "Content-Type"
TIMEOUT: Final = "Kit-Timeout"
REQUEST_ID: Final = "Kit-Request-Id"
CALLER: Final = "Kit-Caller"
CODE: Final = "Kit-Code"
ERROR: Final = "Kit-Error"
FIELD: Final = "Kit-Error-Field"
RETRY_AFTER: Final = "Kit-Retry-After"
SERVICE_ERROR: Final = "Nats-Service-Error"
SERVICE_ERROR_CODE: Final = "Nats-Service-Error-Code"
CANCEL: Final = "_kit.cancel"

_PLAIN_START: Final = b"NATS/1.0\r\nKit-Timeout: "
_PLAIN_END: Final = b"\r\n\r\n"
_PLAIN_FROM: Final = len(_PLAIN_START)
_MAX_DIGITS: Final = 12  # of milliseconds some 31 years; more is a mistake
_MAX_TEXT: Final = 1024
_MAX_PLAIN: Final = 256

# Header blocks in their plain form, and the milliseconds in them.  Most callers give all
# their asks the same, so it is looked up, not read.
_plain: Final[dict[bytes, int | None]] = {b"": None}


def plain_headers(timeout_ms: int) -> bytes:
    """Return the header block of most asks: the timeout, and nothing else."""
    return b"%b%d%b" % (_PLAIN_START, timeout_ms, _PLAIN_END)


def timeout_ms(message: Message) -> int | None:
    """Return the milliseconds that the caller gives, counted from now; None if unsaid.

    Marks a message as plain whose headers are none, or just what `plain_headers` writes.

    Raises:
        InvalidArgument: ``Kit-Timeout`` is no whole number, or came twice.
    """
    block = message.header_block
    if block in _plain:
        message.is_plain = True
        return _plain[block]
    if block.startswith(_PLAIN_START) and block.endswith(_PLAIN_END):
        digits = block[_PLAIN_FROM:-4]
        if digits.isdigit() and len(digits) <= _MAX_DIGITS:
            if len(_plain) >= _MAX_PLAIN:
                _plain.clear()
                _plain[b""] = None
            message.is_plain = True
            return _plain.setdefault(block, int(digits))
    text = message.headers.single(TIMEOUT)
    if not text:
        return None
    if not _is_number(text):
        raise InvalidArgument(
            f"header {TIMEOUT} must be whole milliseconds, not {text[:40]!r}",
            field=TIMEOUT,
        )
    return int(text)


def _is_number(text: str) -> bool:
    """Tell whether `text` is a whole number, of no more digits than any header needs."""
    return len(text) <= _MAX_DIGITS and text.isascii() and text.isdigit()


@dataclass(frozen=True, slots=True)
class Declared:
    """One exception class that an endpoint declares, and how its fields travel."""

    exception: type[Exception]
    encode: Mapping[str, Callable[[Any], bytes]]
    decode: Mapping[str, Callable[[bytes], Exception]]

    @classmethod
    def of(cls, exception: type[Exception]) -> Declared:
        """Return the coders for `exception`.

        Raises:
            TypeError: A field of it has no wire form.
        """
        encode: dict[str, Callable[[Any], bytes]] = {}
        decode: dict[str, Callable[[bytes], Exception]] = {}
        for codec in (MSGPACK, JSON):
            encode[codec.name], decode[codec.name] = error_codec(exception, codec)
        return cls(exception, encode, decode)


ErrorTypes: TypeAlias = Mapping[str, Declared]
"""The declared exceptions of an endpoint, by class name."""


def declaration(error: BaseException, declared: ErrorTypes) -> Declared | None:
    """Return how `error` is declared; None if it is not."""
    known = declared.get(type(error).__name__)
    return known if known is not None and type(error) is known.exception else None


def error_code(error: BaseException, declared: ErrorTypes) -> Code:
    """Return the code that `error` has for a caller.

    One that is declared and names none is `FAILED_PRECONDITION`; one that is neither a
    `KitError` nor declared is `INTERNAL`, whatever it says.
    """
    if isinstance(error, KitError):
        return code_of(error)
    if declaration(error, declared) is None:
        return Code.INTERNAL
    return code_of(error) if hasattr(error, "code") else Code.FAILED_PRECONDITION


def encode_error(
    error: BaseException, *, request_id: str, codec: Codec, declared: ErrorTypes
) -> tuple[bytes, bytes]:
    """Return the payload and header block that tell a caller of `error`.

    A declared error travels with its fields, any `KitError` with its code and message.
    Anything else is `INTERNAL` and says only where to look: nothing leaks.
    """
    data = b""
    code = error_code(error, declared)
    known = declaration(error, declared)
    fields: dict[str, str] = {}
    text = str(error)
    if known is not None:
        body = JSON if codec.name == "raw" else codec
        data = known.encode[body.name](error)
        fields[ERROR] = type(error).__name__
        fields[CONTENT_TYPE] = body.content_type
    elif not isinstance(error, KitError):
        text = f"internal error; the service's log has it under request id {request_id}"
    fields[SERVICE_ERROR] = one_line(text) or code.value
    fields[SERVICE_ERROR_CODE] = str(code.http)
    fields[CODE] = code.value
    fields[REQUEST_ID] = one_line(request_id)
    fields.update(_facts(error))
    return data, encode_headers(fields)


def _facts(error: BaseException) -> dict[str, str]:
    """Return the headers for what some errors know beside code and text."""
    facts: dict[str, str] = {}
    retry_after = getattr(error, "retry_after", None)
    if isinstance(error, KitError) and retry_after is not None:
        facts[RETRY_AFTER] = str(max(0, math.ceil(round(retry_after * 1000, 6))))
    if isinstance(error, InvalidArgument) and error.field:
        facts[FIELD] = one_line(error.field)
    return facts


def one_line(text: str) -> str:
    """Return `text` fit for a header value: no line breaks, not endless."""
    clean = text.encode(errors="replace").decode().replace("\0", " ")
    return " ".join(clean.split())[:_MAX_TEXT]


def decode_error(
    message: Message, *, codec: Codec, declared: ErrorTypes
) -> Exception | None:
    """Return the error that a reply tells of; None for a success.

    Understands any service that follows ADR-32: without ``Kit-Code`` the number in
    ``Nats-Service-Error-Code`` is read as an HTTP status.

    Raises:
        DataLoss: The reply cannot be read.
    """
    if not message.header_block:
        return None
    headers = reply_headers(message)
    code = _code(headers)
    if code is None:
        return None
    known = declared.get(headers.get(ERROR, ""))
    if known is not None:
        return known.decode[_body_codec(headers, codec).name](message.data)
    text = headers.get(SERVICE_ERROR, "")
    error = error_for(code, text, request_id=headers.get(REQUEST_ID, ""))
    wait = headers.get(RETRY_AFTER, "")
    if _is_number(wait):
        error.retry_after = int(wait) / 1000
    if isinstance(error, InvalidArgument):
        error.field = headers.get(FIELD, "")
    return error


def _code(headers: Headers) -> Code | None:
    name = headers.get(CODE)
    if name is not None:
        return Code(name) if name in Code.__members__.values() else Code.UNKNOWN
    number = headers.get(SERVICE_ERROR_CODE)
    if number is not None:
        return Code.from_http(int(number)) if _is_number(number) else Code.UNKNOWN
    return Code.UNKNOWN if SERVICE_ERROR in headers else None


def _body_codec(headers: Headers, codec: Codec) -> Codec:
    named = headers.get(CONTENT_TYPE)
    if not named:
        return codec
    try:
        return by_content_type(named)
    except InvalidArgument as exc:
        raise DataLoss(f"the reply cannot be read: {exc}") from exc


def reply_headers(message: Message) -> Headers:
    """Return the headers of a reply.

    Raises:
        DataLoss: They are malformed.
    """
    try:
        return message.headers
    except InvalidArgument as exc:
        raise DataLoss(f"the reply cannot be read: {exc}") from exc


def reply_codec(message: Message, default: Codec) -> Codec:
    """Return the codec of a reply: as its header says, else `default`.

    Raises:
        DataLoss: The header names none we know.
    """
    if message.is_plain or not message.header_block:
        return default
    return _body_codec(reply_headers(message), default)
