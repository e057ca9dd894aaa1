"""Decodes an HTTP response into a result or an error.

A problem document (RFC 9457) as the HTTP gateway writes it is read back whole: code, field,
retry time, the service's own typed error.  Any other failure is its status, by the one
table, and what text there is for people.

A response that streams is read as a reply for each item: events, lines of JSON, or bytes as
they come.  Source of the event format: HTML, "Server-sent events".  An ``event: error``, and
a last line that is a problem, are the errors that the HTTP gateway ends a stream with;
``event: end`` and ``data: [DONE]`` are the ends that it and others announce.  Left out:
coming back after a connection broke.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from kitmsg.codec import DECODE_ERRORS, JSON, MSGPACK, RAW, by_content_type
from kitmsg.errors import (
    Code,
    DataLoss,
    InvalidArgument,
    KitError,
    ResourceExhausted,
    Unavailable,
    error_for,
)
from kitmsg.schema.instances import validator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from kitmsg.transport.replies import Declared, ErrorTypes

__all__ = [
    "ACCEPT",
    "NDJSON",
    "HttpReply",
    "Read",
    "error_of",
    "plain_reader",
    "reader",
    "replies_of",
]

NDJSON: Final = "application/x-ndjson"
ACCEPT: Final = (
    "application/x-ndjson, text/event-stream;q=0.9, application/octet-stream;q=0.5"
)
"""Lines first: they keep the bounds between items, and need the fewest bytes."""

_PROBLEM: Final = "application/problem+json"
_URN: Final = b"urn:kitmsg:error:"
_DONE: Final = b"[DONE]"
_BOM: Final = b"\xef\xbb\xbf"

_log = logging.getLogger("kitmsg_gateways.upstream")

_REDIRECT: Final = 300
_FAILED: Final = 400
_SERVER: Final = 500
_MAX_TEXT: Final = 300
_MAX_WAIT: Final = 86400.0
_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_TEXTS: Final = ("detail", "message", "error", "err", "title")
_decode: Final = msgspec.json.Decoder().decode
_unpack: Final = msgspec.msgpack.Decoder().decode


@dataclass(frozen=True, slots=True)
class HttpReply:
    """An HTTP response, read to its end.

    Attributes:
        status: HTTP status.
        headers: By name, compared without case.
        body: Unpacked.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        """Media type without parameters, in lower case; "" for none."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()


Read: TypeAlias = "Callable[[HttpReply], Any]"


def error_of(reply: HttpReply, *, name: str, declared: ErrorTypes) -> Exception | None:
    """Return the error that a response tells of; None for a success."""
    if reply.status < _REDIRECT:
        return None
    document = _document(reply)
    known = declared.get(str(document.get("error", "")))
    code = _code(reply, document)
    if known is not None and "details" in document:
        return _typed(known, document, code)
    given = reply.headers.get("X-Request-Id", "")
    error = error_for(
        code,
        _message(reply, document, name),
        retry_after=_retry_after(reply.headers.get("Retry-After", "")),
        request_id=given if _ID.fullmatch(given) else "",
    )
    exact = document.get("retry_after")
    if error.retry_after is not None and isinstance(exact, (int, float)):
        error.retry_after = min(max(0.0, exact), _MAX_WAIT)
    field = document.get("field")
    if isinstance(error, InvalidArgument) and isinstance(field, str):
        error.field = field
    if reply.status >= _SERVER:
        text = reply.body[:_MAX_TEXT]
        _log.warning("%s: the server answered %d: %r", name, reply.status, text)
    return error


def _typed(known: Declared, document: Mapping[str, Any], code: Code) -> Exception:
    """Return a declared error, with the code and text that it came with.

    Raises:
        DataLoss: Its fields do not fit.
    """
    error = known.decode[JSON.name](JSON.encoder()(document["details"]))
    if isinstance(error, KitError):
        error.code = code  # type: ignore[misc]  # of its class, unless it came with another
        error.message = _words(document.get("detail")) or error.message
    return error


def _document(reply: HttpReply) -> dict[str, Any]:
    """Return the JSON object that an error's body is; empty for anything else."""
    if not reply.content_type.endswith("json"):
        return {}
    try:
        found = _decode(reply.body)
    except DECODE_ERRORS:
        return {}
    return found if isinstance(found, dict) else {}


def _code(reply: HttpReply, document: Mapping[str, Any]) -> Code:
    named = document.get("code")
    if isinstance(named, str) and named in Code.__members__.values():
        return Code(named)
    if reply.status < _FAILED:
        return Code.FAILED_PRECONDITION  # a redirect that is not followed
    return Code.from_http(reply.status)


def _message(reply: HttpReply, document: Mapping[str, Any], name: str) -> str:
    """Return the text of an error for the caller.

    A server's text about its own failure is for the log, unless it is a problem document,
    which is meant for callers.
    """
    is_problem = reply.content_type == _PROBLEM
    if is_problem or reply.status < _SERVER:
        text = next(filter(None, map(_words, _candidates(reply, document))), "")
        if text:
            return text
    try:
        phrase = HTTPStatus(reply.status).phrase
    except ValueError:
        phrase = ""
    return f"{name}: the server answered {reply.status} {phrase}".rstrip()


def _candidates(reply: HttpReply, document: Mapping[str, Any]) -> list[Any]:
    found = [document.get(key) for key in _TEXTS]
    nested = document.get("error")
    if isinstance(nested, dict):
        found.append(nested.get("message"))
    if reply.content_type == "text/plain":
        found.append(reply.body[: 4 * _MAX_TEXT].decode(errors="replace"))
    return found


def _words(value: Any) -> str:
    if not isinstance(value, str):
        return ""
    return " ".join(value.replace("\0", " ").split())[:_MAX_TEXT]


def _retry_after(text: str) -> float | None:
    """Return the seconds of ``Retry-After``.  Source: RFC 9110, section 10.2.3."""
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), _MAX_WAIT)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max(0.0, (at - datetime.now(UTC)).total_seconds()), _MAX_WAIT)


def reader(
    name: str, decoders: Mapping[str, Callable[[bytes], Any]], *, takes_text: bool
) -> Read:
    """Return a function from a response that is no error to its result.

    An empty body is None.  It raises `DataLoss` for one that cannot be read or does not fit.

    Args:
        name: Of the endpoint, for messages.
        decoders: From bytes to a result, by codec name; ``raw`` may be missing.
        takes_text: Whether a plain text is a result.
    """

    def read(reply: HttpReply) -> Any:
        kind = reply.content_type
        if not reply.body:
            return decoders[JSON.name](b"null")
        if takes_text and kind.startswith("text/"):
            return reply.body.decode(errors="replace")
        try:
            codec = by_content_type(kind) if kind else JSON
        except InvalidArgument:
            codec = RAW
        decode = decoders.get(codec.name)
        if decode is None:
            raise DataLoss(f"{name} answered with {kind!r}")
        try:
            return decode(reply.body)
        except DECODE_ERRORS as exc:
            raise DataLoss(f"{name}: the response cannot be read: {exc}") from exc
        except KitError as exc:
            raise DataLoss(f"{name}: {exc}") from exc

    return read


def plain_reader(name: str, schema: Mapping[str, Any]) -> Read:
    """Return a reader of whatever comes: JSON, text, bytes.

    A value that fits `schema` has bytes where that says base64.  Another passes as it is:
    many an API does not keep to its own document.
    """
    fit = validator(schema)

    def fitted(value: Any) -> Any:
        try:
            return fit(value)
        except InvalidArgument as exc:
            _log.debug("%s: a response does not fit its schema: %s", name, exc)
            return value

    decoders: dict[str, Callable[[bytes], Any]] = {
        JSON.name: lambda data: fitted(_decode(data)),
        MSGPACK.name: lambda data: fitted(_unpack(data)),
        RAW.name: bytes,
    }
    return reader(name, decoders, takes_text=True)


class _Told(msgspec.Struct):
    """The parts of a problem that tell it from an item."""

    type: str = ""
    status: int = 0


_told: Final = msgspec.json.Decoder(_Told).decode


async def replies_of(
    media_type: str, chunks: AsyncIterator[bytes], limit: int
) -> AsyncIterator[HttpReply]:
    """Yield a response for each item of a stream, and for the error that it ends with.

    Raises:
        ResourceExhausted: An item is longer than `limit` bytes.
        Unavailable: Events end without a word, so some may be missing.
    """
    if media_type == "text/event-stream":
        async for reply in _from_events(chunks, limit):
            yield reply
    elif media_type.endswith(("json", "jsonl", "jsonlines")):
        async for line in _lines(chunks, limit):
            if line and not line.isspace():
                yield (_problem(line) if _URN in line else None) or _item(line)
    else:
        async for chunk in chunks:
            yield HttpReply(200, {"Content-Type": media_type}, chunk)


async def _from_events(
    chunks: AsyncIterator[bytes], limit: int
) -> AsyncIterator[HttpReply]:
    async for name, data in _events(chunks, limit):
        if name == b"end" or data == _DONE:
            return
        if name == b"error":
            problem = _problem(data)
            if problem is not None:
                yield problem
            raise Unavailable("the stream ended with an error that says no more")
        yield _item(data)
    raise Unavailable("the stream broke off: its server did not say that it ends")


def _item(body: bytes) -> HttpReply:
    return HttpReply(200, {"Content-Type": JSON.content_type}, body)


def _problem(body: bytes) -> HttpReply | None:
    """Return the failed response that a line is, if it is a problem and not an item."""
    try:
        told = _told(body)
    except DECODE_ERRORS:
        return None
    if told.status < _FAILED or not told.type.encode().startswith(_URN):
        return None
    return HttpReply(told.status, {"Content-Type": _PROBLEM}, body)


async def _events(
    chunks: AsyncIterator[bytes], limit: int
) -> AsyncIterator[tuple[bytes, bytes]]:
    """Yield name and data of each event."""
    name, size = b"", 0
    data: list[bytes] = []
    async for line in _lines(chunks, limit):
        text = line.removesuffix(b"\r")
        if not text:
            if data:
                yield name, b"\n".join(data)
            name, data, size = b"", [], 0
            continue
        field, _, value = text.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            size += len(value)
            if size > limit:
                raise _too_long(limit)
            data.append(value)
        elif field == b"event":
            name = value


async def _lines(chunks: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """Yield the lines of a body; its first bytes may be a byte order mark."""
    rest, is_first = b"", True
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if len(line) > limit:
                raise _too_long(limit)
            yield line.removeprefix(_BOM) if is_first else line
            is_first = False
        if len(rest) > limit:
            raise _too_long(limit)
    if rest:
        yield rest


def _too_long(limit: int) -> ResourceExhausted:
    return ResourceExhausted(f"an item of the stream is longer than {limit} bytes")
