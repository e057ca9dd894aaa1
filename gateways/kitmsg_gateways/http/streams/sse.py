"""Items as server-sent events.  Source: HTML, "Server-sent events".

    retry: 2000             wait so many ms before coming back
    id: 17                  the item's own ``id``, else its number
    data: {"price": 42}     the item, in JSON
    :                       nothing happens, but we are there
    event: end              there are no more
    event: error            an error; its data is the problem

A browser comes back by itself, with the last id in ``Last-Event-ID``.  An endpoint that
can go on from there takes a parameter from that header; numbers then go on too.
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from kitmsg.codec import DECODE_ERRORS
from kitmsg.schema.pointers import resolve

if TYPE_CHECKING:
    from kitmsg_gateways.http.streams.opening import Opening

__all__ = ["LAST_EVENT_ID", "SSE", "Sse"]

SSE: Final = "text/event-stream"
LAST_EVENT_ID: Final = "Last-Event-ID"

_RETRY_MS: Final = 2000
_NUMBER: Final = re.compile(r"\d{1,15}", re.ASCII)
_PLAIN: Final = re.compile(r"[^\x00\r\n]*")


class _WithId(msgspec.Struct):
    """What of an item is looked at."""

    id: str | int | None = None


_id_of: Final = msgspec.json.Decoder(_WithId).decode


class Sse:
    """An event for each item; a `kitmsg_gateways.http.streams.forms.Form`.

    Args:
        opening: The request, and the endpoint.
    """

    kind = "sse"
    media_type = SSE
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

    def start(self) -> bytes:
        """Return how long to wait before coming back."""
        return b"retry: %d\n" % _RETRY_MS  # some take it with a blank line for an event

    def item(self, data: bytes) -> bytes:
        """Return an event."""
        self._number += 1
        name = self._id(data)
        if b"\n" in data or b"\r" in data:
            data = b"\ndata: ".join(data.splitlines())
        return b"id: %b\ndata: %b\n\n" % (name, data)

    def end(self) -> bytes:
        """Return the event that tells a page to close: it would come back otherwise."""
        return b"event: end\ndata: {}\n\n"

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
