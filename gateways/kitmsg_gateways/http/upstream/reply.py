"""Decodes an HTTP response into a result or an error.

A problem document (RFC 9457) as the HTTP gateway writes it is read back whole: code, field,
retry time, the service's own typed error.  Any other failure is its status, by the one
table, and what text there is for people.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import msgspec

from kitmsg.codec import DECODE_ERRORS, JSON, MSGPACK, RAW, Codec, by_content_type
from kitmsg.errors import Code, DataLoss, InvalidArgument, KitError, error_for
from kitmsg.schema.instances import validator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kitmsg.transport.replies import Declared, ErrorTypes

__all__ = ["HttpReply", "Reader", "error_of", "plain_reader"]

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


def error_of(reply: HttpReply, *, name: str, declared: ErrorTypes) -> Exception | None:
    """Return the error that a response tells of; None for a success.

    Args:
        reply: The response.
        name: Of the endpoint, for messages.
        declared: Typed errors that it may tell of.
    """
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
    is_problem = reply.content_type == "application/problem+json"
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


class Reader:
    """Reads results of one type.

    Args:
        name: Of the endpoint, for messages.
        decoders: From bytes to a result, by codec name; ``raw`` may be missing.
        takes_text: Whether a plain text is a result.
    """

    def __init__(
        self,
        name: str,
        decoders: Mapping[str, Callable[[bytes], Any]],
        *,
        takes_text: bool,
    ) -> None:
        self._name = name
        self._decoders = decoders
        self._takes_text = takes_text

    def __call__(self, reply: HttpReply) -> Any:
        """Return the result in a response that is no error; None for an empty body.

        Raises:
            DataLoss: It cannot be read or does not fit.
        """
        if not reply.body:
            return self._decoders[JSON.name](b"null")
        if self._takes_text and reply.content_type.startswith("text/"):
            return reply.body.decode(errors="replace")
        decode = self._decoders.get(self._codec(reply).name)
        if decode is None:
            raise DataLoss(f"{self._name} answered with {reply.content_type!r}")
        try:
            return decode(reply.body)
        except DECODE_ERRORS as exc:
            raise DataLoss(f"{self._name}: the response cannot be read: {exc}") from exc
        except KitError as exc:
            raise DataLoss(f"{self._name}: {exc}") from exc

    def _codec(self, reply: HttpReply) -> Codec:
        if not reply.content_type:
            return JSON
        try:
            return by_content_type(reply.content_type)
        except InvalidArgument:
            return RAW


def plain_reader(name: str, schema: Mapping[str, Any]) -> Reader:
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
    return Reader(name, decoders, takes_text=True)
