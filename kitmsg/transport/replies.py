"""Errors as replies and back, and the codec of a reply.

The names are in `kitmsg.wire`; `docs/protocol.md` has examples.  Source of the
``Nats-Service-Error`` headers: NATS ADR-32, "Error Handling".
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import quote, unquote

from kitmsg.codec import JSON, MSGPACK, Codec, by_content_type, sniff_reply
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
from kitmsg.wire import (
    BEGAN,
    CODE,
    CONTENT_TYPE,
    ERROR,
    ERROR_FIELD,
    ERROR_TEXT,
    REQUEST_ID,
    RETRY_AFTER,
    SERVICE_ERROR,
    SERVICE_ERROR_CODE,
    is_number,
)

__all__ = [
    "Declared",
    "ErrorTypes",
    "declaration",
    "decode_error",
    "encode_error",
    "error_code",
    "one_line",
    "reply_codec",
    "reply_headers",
]

_MAX_TEXT: Final = 1024
_UNQUOTED: Final = "!\"#$&'()*+,/:;<=>?@[]{|}"


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
    error: BaseException,
    *,
    request_id: str,
    codec: Codec,
    declared: ErrorTypes,
    endpoint: str = "",
) -> tuple[bytes, bytes]:
    """Return the payload and header block that tell a caller of `error`.

    A declared error travels with its fields, any `KitError` with its code and message.
    Anything else is `INTERNAL` and says only where to look: nothing leaks.  With the name of
    the `endpoint` that answers, the caller hears too where its work never began.
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
    fields[SERVICE_ERROR] = line = one_line(text) or code.value
    if (exact := _exact(error, text)) != line:
        fields[ERROR_TEXT] = quote(exact[:_MAX_TEXT], _UNQUOTED, errors="replace")
    fields[SERVICE_ERROR_CODE] = str(code.http)
    fields[CODE] = code.value
    fields[REQUEST_ID] = one_line(request_id)
    fields.update(_facts(error))
    if endpoint and isinstance(error, KitError) and error.refused == endpoint:
        fields[BEGAN] = "no"
    return data, encode_headers(fields)


def _exact(error: BaseException, text: str) -> str:
    """Return the message of an error whose text is `text`; "" where the code stands in."""
    is_empty = isinstance(error, KitError) and not error.message
    return "" if is_empty and text == code_of(error).value else text


def _facts(error: BaseException) -> dict[str, str]:
    """Return the headers for what some errors know beside code and text."""
    facts: dict[str, str] = {}
    retry_after = getattr(error, "retry_after", None)
    if isinstance(error, KitError) and retry_after is not None:
        facts[RETRY_AFTER] = str(max(0, math.ceil(round(retry_after * 1000, 6))))
    if isinstance(error, InvalidArgument) and error.field:
        facts[ERROR_FIELD] = one_line(error.field)
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
        body = _body_codec(headers, message.data, codec)
        return _told(message, headers, known.decode[body.name](message.data))
    exact = headers.get(ERROR_TEXT)
    text = headers.get(SERVICE_ERROR, "") if exact is None else unquote(exact)
    error = error_for(code, text)
    if isinstance(error, InvalidArgument):
        error.field = headers.get(ERROR_FIELD, "")
    return _told(message, headers, error)


def _told(message: Message, headers: Headers, error: Exception) -> Exception:
    """Return an error with the facts that every reply tells beside it."""
    id_ = headers.get(REQUEST_ID, "")
    if not isinstance(error, KitError):
        if not hasattr(error, "request_id"):
            with contextlib.suppress(AttributeError):
                error.request_id = id_  # type: ignore[attr-defined]
        return error
    error.request_id = id_
    wait = headers.get(RETRY_AFTER, "")
    if is_number(wait):
        error.retry_after = int(wait) / 1000
    error.reply = message
    return error


def _code(headers: Headers) -> Code | None:
    name = headers.get(CODE)
    if name is not None:
        return Code(name) if name in Code.__members__.values() else Code.UNKNOWN
    number = headers.get(SERVICE_ERROR_CODE)
    if number is not None:
        return Code.from_http(int(number)) if is_number(number) else Code.UNKNOWN
    return Code.UNKNOWN if SERVICE_ERROR in headers else None


def _body_codec(headers: Headers, data: bytes, codec: Codec) -> Codec:
    named = headers.get(CONTENT_TYPE)
    if not named:
        return sniff_reply(data, codec)
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
    """Return the codec of a reply: as its header says, else as `sniff_reply` does.

    Args:
        message: The reply.
        default: Codec of the request.

    Raises:
        DataLoss: The header names none we know.
    """
    if message.is_plain or not message.header_block:
        return sniff_reply(message.data, default)
    return _body_codec(reply_headers(message), message.data, default)
