"""Formats of a stream's items in the body of an answer, and which of them a client wants.

text/event-stream: server-sent events, for browsers.  Source: HTML, "Server-sent events".

    retry: 2000             wait so many ms before coming back
    id: 17                  the item's own ``id``, else its number
    data: {"price": 42}     the item, in JSON
    :                       nothing happens, but we are there
    event: end              there are no more
    event: error            an error; its data is the problem

A browser comes back by itself, with the last id in ``Last-Event-ID``.  An endpoint that
can go on from there takes a parameter from that header; numbers then go on too.

application/x-ndjson: a line of JSON for each item; the usual format.  After an error the
last line is the problem; its ``type`` begins with ``urn:kitmsg:error:``, and it has a
``status``.

application/octet-stream: items that are bytes, one after the other.  On the bus they are
JSON as any item is, which is base64; where one item ends and the next begins is not kept.
After an error in the middle the connection is broken off, so that nobody takes half a file
for a whole one.
"""

from __future__ import annotations

import random
import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Final

import msgspec

from kitmsg.codec import DECODE_ERRORS, RAW
from kitmsg.errors import DataLoss
from kitmsg.schema.pointers import resolve
from kitmsg_gateways.http.content import choose
from kitmsg_gateways.http.errors import refusal

if TYPE_CHECKING:
    from kitmsg_gateways.http.streams.live import Opening

__all__ = [
    "LAST_EVENT_ID",
    "NDJSON",
    "OCTETS",
    "SSE",
    "Format",
    "NdJson",
    "Octets",
    "Sse",
    "format_of",
    "formats_of",
    "plain",
]

NDJSON: Final = "application/x-ndjson"
OCTETS: Final = RAW.content_type
SSE: Final = "text/event-stream"
LAST_EVENT_ID: Final = "Last-Event-ID"

_RETRY_MS: Final = 2000
_NUMBER: Final = re.compile(r"\d{1,15}", re.ASCII)
_PLAIN: Final = re.compile(r"[^\x00\r\n]*")
_decode: Final = msgspec.json.Decoder(bytes).decode


class Format(ABC):
    """Format of a response body that is a stream of items.

    Attributes:
        kind: Its name in the metrics.
        media_type: Its ``Content-Type``.
        start: Bytes before the first item.
        end: Bytes after the last item.
        beat: Bytes that are sent when nothing happens; b"" for none.
        is_resumed: Whether a client comes back by itself after the end, so that it may
            come soon.
    """

    kind: ClassVar[str]
    media_type: ClassVar[str]
    start: ClassVar[bytes] = b""
    end: ClassVar[bytes] = b""
    beat: ClassVar[bytes] = b""
    is_resumed: ClassVar[bool] = False

    @abstractmethod
    def item(self, data: bytes) -> bytes:
        """Return one item, which is JSON.

        Raises:
            DataLoss: It cannot be written in this format.
        """

    def pause(self) -> bytes:
        """Return bytes that tell a client when to come back: the gateway stops."""
        return b""

    @abstractmethod
    def failure(self, problem: bytes) -> bytes | None:
        """Return bytes that tell of an error; None if only a broken connection can."""


def formats_of(gives_bytes: bool) -> tuple[str, ...]:
    """Return the media types in which items can go out, the usual one first."""
    return (OCTETS, NDJSON, SSE) if gives_bytes else (NDJSON, SSE)


def format_of(opening: Opening) -> Format:
    """Return the format that a client wants.

    Raises:
        Problem: 406; it wants none that we have.
    """
    headers = opening.request.headers
    offers = formats_of(opening.mounted.gives_bytes)
    accept = ",".join(headers.getall("Accept", []))
    chosen = choose(accept, offers)
    if chosen is None:
        raise refusal(
            406,
            f"{opening.mounted.dotted} is a stream; it comes as"
            f" {' or '.join(offers)}, or over a WebSocket; 'Accept: */*' takes the first"
            " (curl --json asks for application/json alone)",
            field="Accept",
        )
    if chosen == SSE:
        return Sse(opening)
    return NdJson() if chosen == NDJSON else Octets()


class NdJson(Format):
    """A line for each item."""

    kind = "ndjson"
    media_type = NDJSON

    def item(self, data: bytes) -> bytes:
        """Return a line."""
        return _line(data) + b"\n"

    def failure(self, problem: bytes) -> bytes:
        """Return the problem as the last line."""
        return problem + b"\n"


def _line(data: bytes) -> bytes:
    """Return JSON without line breaks."""
    if b"\n" in data or b"\r" in data:  # a foreign service may write as it likes
        return msgspec.json.format(data, indent=-1)
    return data


class Octets(Format):
    """The bytes themselves."""

    kind = "bytes"
    media_type = OCTETS

    def item(self, data: bytes) -> bytes:
        """Return the bytes that an item is.

        Raises:
            DataLoss: It is none.
        """
        return plain(data)

    def failure(self, problem: bytes) -> None:
        """Return None: the body is broken off."""


def plain(data: bytes) -> bytes:
    """Return the bytes that a JSON value stands for.

    Raises:
        DataLoss: It is no base64.
    """
    try:
        return _decode(data)
    except DECODE_ERRORS as exc:
        raise DataLoss(f"what should be bytes is none: {exc}") from exc


class _WithId(msgspec.Struct):
    """The field of an item that is looked at."""

    id: str | int | None = None


_id_of: Final = msgspec.json.Decoder(_WithId).decode


class Sse(Format):
    """An event for each item."""

    kind = "sse"
    media_type = SSE
    # Some take it with a blank line behind it for an event.
    start = b"retry: %d\n" % _RETRY_MS
    end = b"event: end\ndata: {}\n\n"  # or a page would come back
    beat = b":\n"
    is_resumed = True

    def __init__(self, opening: Opening) -> None:
        schema = opening.mounted.schema or {}
        self._has_ids = _has_ids(schema.get("response"))
        self._number = 0
        taken = {name.lower() for name in opening.mounted.parameters.headers.values()}
        if LAST_EVENT_ID.lower() in taken:
            last = opening.request.headers.get(LAST_EVENT_ID, "")
            self._number = int(last) if _NUMBER.fullmatch(last) else 0

    def item(self, data: bytes) -> bytes:
        """Return an event."""
        self._number += 1
        name = self._id(data)
        if b"\n" in data or b"\r" in data:
            data = b"\ndata: ".join(data.splitlines())
        return b"id: %b\ndata: %b\n\n" % (name, data)

    def pause(self) -> bytes:
        """Return when to come back; not all at the same moment."""
        return b"retry: %d\n" % random.randint(_RETRY_MS // 4, _RETRY_MS)  # noqa: S311

    def failure(self, problem: bytes) -> bytes:
        """Return the event of an error."""
        return b"event: error\ndata: %b\n\n" % problem

    def _id(self, data: bytes) -> bytes:
        if self._has_ids:
            try:
                found = _id_of(data).id
            except DECODE_ERRORS:
                found = None
            if found is not None and _PLAIN.fullmatch(str(found)):
                return str(found).encode()
        return b"%d" % self._number


def _has_ids(schema: Any) -> bool:
    """Tell whether items are objects with a field ``id``."""
    if not isinstance(schema, dict):
        return False
    properties = resolve(schema, schema).get("properties")
    return isinstance(properties, dict) and "id" in properties
