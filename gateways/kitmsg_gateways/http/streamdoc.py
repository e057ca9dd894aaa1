"""Endpoints that stream in the OpenAPI document: items as lines, events or bytes.

OpenAPI 3.1 has no words for a body of many items, so such a body is text there; what each
item is stands under ``x-items``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from kitmsg_gateways.http.samples import NONE
from kitmsg_gateways.http.streams.forms import forms_of
from kitmsg_gateways.http.streams.ndjson import NDJSON
from kitmsg_gateways.http.streams.octets import OCTETS
from kitmsg_gateways.http.streams.upload import FORM

if TYPE_CHECKING:
    from kitmsg_gateways.http.samples import Samples

__all__ = ["NOTES", "answer", "body"]

NOTES: Final = {
    "out": "Streams its results; also over a WebSocket.",
    "in": "Takes a stream of items in the body; also over a WebSocket.",
    "both": "Streams both ways; best over a WebSocket.",
}
"""What to say of an endpoint, by the kind of its stream."""

_TEXT: Final = {"type": "string"}
_FILE: Final = {"type": "object", "properties": {"file": {"type": "string"}}}


def answer(item: dict[str, Any], samples: Samples) -> dict[str, Any]:
    """Return the response that streams items of a schema."""
    found = {media: {"schema": _TEXT} for media in forms_of(_is_bytes(item))}
    found[NDJSON] = _lines(item, samples)
    return {"description": "The items, one after the other.", "content": found}


def body(item: dict[str, Any], samples: Samples) -> dict[str, Any]:
    """Return the request body that is a stream of items of a schema."""
    found = {NDJSON: _lines(item, samples)}
    if _is_bytes(item):
        found |= {OCTETS: {"schema": _TEXT}, FORM: {"schema": _FILE}}
    return {"description": "The items.", "content": found}


def _lines(item: dict[str, Any], samples: Samples) -> dict[str, Any]:
    found = {"schema": {**_TEXT, "x-items": item}}
    example = samples.of(item)
    if example is NONE:
        return found
    return {**found, "example": msgspec.json.encode(example).decode() + "\n"}


def _is_bytes(item: dict[str, Any]) -> bool:
    return "contentEncoding" in item
