"""Responses that are streams, as items: events, lines of JSON, or bytes as they come.

Source of the event format: HTML, "Server-sent events".  An ``event: error``, and a last line
that is a problem, are the errors that the HTTP gateway ends a stream with; ``event: end``
and ``data: [DONE]`` are the ends that it and others announce.  Left out: coming back after
a connection broke.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from kitmsg.codec import DECODE_ERRORS, JSON
from kitmsg.errors import ResourceExhausted, Unavailable
from kitmsg_gateways.http.upstream.reply import HttpReply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["ACCEPT", "EVENTS", "NDJSON", "replies_of"]

EVENTS: Final = "text/event-stream"
NDJSON: Final = "application/x-ndjson"
ACCEPT: Final = (
    "application/x-ndjson, text/event-stream;q=0.9, application/octet-stream;q=0.5"
)
"""Lines first: they keep the bounds between items, and need the fewest bytes."""

_PROBLEM: Final = "application/problem+json"
_URN: Final = b"urn:kitmsg:error:"
_DONE: Final = b"[DONE]"
_BOM: Final = b"\xef\xbb\xbf"
_FAILED: Final = 400


class _Told(msgspec.Struct):
    """The parts of a problem that tell it from an item."""

    type: str = ""
    status: int = 0


_told: Final = msgspec.json.Decoder(_Told).decode


class _Event(NamedTuple):
    name: bytes
    data: bytes


async def replies_of(
    media_type: str, chunks: AsyncIterator[bytes], limit: int
) -> AsyncIterator[HttpReply]:
    """Yield a response for each item of a stream, and for the error that it ends with.

    Args:
        media_type: Of the response.
        chunks: Its body as it comes.
        limit: Longest item, in bytes.

    Raises:
        ResourceExhausted: An item is too long.
        Unavailable: Events end without a word, so some may be missing.
    """
    if media_type == EVENTS:
        found = _from_events(chunks, limit)
    elif media_type.endswith(("json", "jsonl", "jsonlines")):
        found = _from_lines(chunks, limit)
    else:
        async for chunk in chunks:
            yield HttpReply(200, {"Content-Type": media_type}, chunk)
        return
    async for reply in found:
        yield reply


async def _from_lines(
    chunks: AsyncIterator[bytes], limit: int
) -> AsyncIterator[HttpReply]:
    async for line in _lines(chunks, limit):
        if not line or line.isspace():
            continue
        yield (_problem(line) if _URN in line else None) or _item(line)


async def _from_events(
    chunks: AsyncIterator[bytes], limit: int
) -> AsyncIterator[HttpReply]:
    async for event in _events(chunks, limit):
        if event.name == b"end" or event.data == _DONE:
            return
        if event.name == b"error":
            problem = _problem(event.data)
            if problem is not None:
                yield problem
            raise Unavailable("the stream ended with an error that says no more")
        yield _item(event.data)
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


async def _events(chunks: AsyncIterator[bytes], limit: int) -> AsyncIterator[_Event]:
    name, size = b"", 0
    data: list[bytes] = []
    async for line in _lines(chunks, limit):
        text = line.removesuffix(b"\r")
        if not text:
            if data:
                yield _Event(name, b"\n".join(data))
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
