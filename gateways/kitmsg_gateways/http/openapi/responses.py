"""Responses of an operation in the OpenAPI document: results, streams, each kind of error.

OpenAPI 3.1 has no words for a body of many items, so such a body is text there; what each
item is stands under ``x-items``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

import kitmsg
from kitmsg.codec import JSON, MSGPACK, RAW
from kitmsg.schema.samples import NONE, Samples
from kitmsg_gateways.http.errors import CONTENT_TYPE
from kitmsg_gateways.http.streams.formats import NDJSON, OCTETS, formats_of
from kitmsg_gateways.http.streams.source import FORM

if TYPE_CHECKING:
    from kitmsg_gateways.http.methods import Mounted
    from kitmsg_gateways.http.openapi.schemas import Components

__all__ = [
    "BYTES",
    "STREAM_NOTES",
    "Responses",
    "media_types",
    "stream_body",
    "with_example",
]

STREAM_NOTES: Final = {
    "out": "Streams its results; also over a WebSocket.",
    "in": "Takes a stream of items in the body; also over a WebSocket.",
    "both": "Streams both ways; best over a WebSocket.",
}
"""Notes on an endpoint, by the kind of its stream."""

_REF: Final = {"$ref": "#/components/schemas/Problem"}
_OTHER: Final = {"$ref": "#/components/responses/Problem"}
_GOKIT_ERROR: Final[dict[str, Any]] = {  # a service's own; the gateway's are problems
    JSON.content_type: {
        "schema": {
            "type": "object",
            "required": ["error"],
            "properties": {"error": {"type": "string"}},
        }
    }
}
_BEGUN: Final = "502"
_STATUSES: Final = {
    "400": "The request does not fit; `field` says where.",
    "429": "The service is full; `retry_after` says when to come back.",
    _BEGUN: "It failed, and its work may have begun.",
    "503": "Nobody can do it now; `Retry-After` says when to come back.",
    "504": "It took too long.",
}
_OF_BODIES: Final = {
    "413": "The body is too long.",
    "415": "The body's type or coding is not understood.",
}
_STRING: Final = {"type": "string"}
_TEXT: Final = {"schema": _STRING}
BYTES: Final = {"schema": {"type": "string", "format": "binary"}}
"""Plain bytes, as code generators know them."""

_FILE: Final = {"type": "object", "properties": {"file": {"type": "string"}}}
_KEPT: Final = {
    "ETag": {"description": "Show it in `If-None-Match` to ask for changes.", **_TEXT},
    "Cache-Control": {"description": "How long the answer keeps.", **_TEXT},
}


def _error(text: str, schema: Any = _REF) -> dict[str, Any]:
    """Return the response that carries a problem."""
    content = {CONTENT_TYPE: {"schema": schema}}
    return {"description": text, "content": content}


_SOCKET: Final = {
    "101": {"description": "It becomes a WebSocket."},
    "426": _error("It did not ask to become a WebSocket."),
    "default": _OTHER,
}


class Responses:
    """Describes answers."""

    def __init__(self, components: Components) -> None:
        self._components = components
        self._samples = Samples(components.resolve)

    def of(self, mounted: Mounted, method: str) -> dict[str, Any]:
        """Return the responses of an endpoint to one HTTP method, by status."""
        if method == "GET" and mounted.stream in ("in", "both"):
            return _SOCKET
        status = str(mounted.status)
        if mounted.gives_nothing and status == "200":
            status = "204"
        found: dict[str, Any] = {status: self._success(mounted, method)}
        is_file = mounted.gives_bytes and not mounted.stream
        if (mounted.cache is not None or is_file) and method == "GET":
            found[status]["headers"] = _KEPT
            found["304"] = {"description": "It has not changed.", "headers": _KEPT}
        if is_file and method == "GET":
            found["206"] = {
                "description": "The part that `Range` asks for.",
                "content": {RAW.content_type: BYTES},
            }
            found["416"] = _error("There is no such part.")
        texts = _STATUSES | (_OF_BODIES if method in ("POST", "PUT", "PATCH") else {})
        own = self._own(mounted)
        for status in sorted({*texts, *own} - {"default"}):
            found[status] = self._described(texts.get(status, ""), own.get(status, {}))
        found["default"] = _OTHER
        if "default" in own or mounted.wire == "gokit":
            found["default"] = self._described(
                "Any other error.", own.get("default", {})
            )
        if mounted.wire == "gokit":
            for status in {*texts, "default"}:
                found[status]["content"] |= _GOKIT_ERROR
        return found

    def _success(self, mounted: Mounted, method: str) -> dict[str, Any]:
        schema = self._components.response(mounted)
        if mounted.stream in ("out", "both"):
            return _stream_answer(schema, self._samples)
        if mounted.gives_nothing:
            return {"description": "It is done."}
        content = media_types(mounted, schema, self._samples)
        if method in ("GET", "DELETE"):  # without a body it has no type to answer in
            content.pop(MSGPACK.content_type, None)
        if mounted.gives_bytes:
            content[RAW.content_type] = BYTES
        return {"description": "The result.", "content": content}

    def _own(self, mounted: Mounted) -> dict[str, dict[str, Any]]:
        """Return the endpoint's own errors by status, each with their schemas by name."""
        found: dict[str, dict[str, Any]] = {}
        for name, schema in self._components.errors(mounted).items():
            found.setdefault(_status(schema), {})[name] = schema
        return found

    def _described(self, text: str, own: dict[str, Any]) -> dict[str, Any]:
        """Return the response of a status: any problem, or one of the endpoint's own."""
        if not own:
            return _error(text)
        names = ", ".join(own)
        told = f"{text} {names} among them." if text else f"{names}."
        variants = [_typed(name, schema) for name, schema in own.items()]
        return _error(told, {"anyOf": [*variants, _REF]})


def media_types(
    mounted: Mounted, schema: dict[str, Any], samples: Samples
) -> dict[str, Any]:
    """Return the media types of a request or a result, but for plain bytes."""
    found = {JSON.content_type: with_example({"schema": schema}, samples)}
    if mounted.is_kit and mounted.wire == "kit":
        found[MSGPACK.content_type] = {"schema": schema}
    return found


def with_example(content: dict[str, Any], samples: Samples) -> dict[str, Any]:
    """Return a media type or parameter with an example, if one is easily found."""
    example = samples.of(content["schema"])
    return content if example is NONE else {**content, "example": example}


def _status(schema: dict[str, Any]) -> str:
    """Return the HTTP status of a service's own error; ``default`` if it does not say."""
    try:
        code = kitmsg.Code(str(schema.get("x-code")))
        return _BEGUN if code is kitmsg.Code.UNAVAILABLE else str(code.http)
    except ValueError:
        return "default"


def _typed(name: str, schema: Any) -> dict[str, Any]:
    """Return the schema of a problem that carries one of a service's own errors."""
    fields = {key: value for key, value in schema.items() if key != "x-code"}
    properties = {"error": {"const": name}, "details": fields}
    return {
        "allOf": [
            _REF,
            {
                "type": "object",
                "required": ["error", "details"],
                "properties": properties,
            },
        ]
    }


def _stream_answer(item: dict[str, Any], samples: Samples) -> dict[str, Any]:
    """Return the response that streams items of a schema."""
    found = dict.fromkeys(formats_of(_is_bytes(item)), _TEXT)
    found[NDJSON] = _lines(item, samples)
    return {"description": "The items, one after the other.", "content": found}


def stream_body(item: dict[str, Any], samples: Samples) -> dict[str, Any]:
    """Return the request body that is a stream of items of a schema."""
    found = {NDJSON: _lines(item, samples)}
    if _is_bytes(item):
        found |= {OCTETS: _TEXT, FORM: {"schema": _FILE}}
    return {"description": "The items.", "content": found}


def _lines(item: dict[str, Any], samples: Samples) -> dict[str, Any]:
    found = {"schema": {**_STRING, "x-items": item}}
    example = samples.of(item)
    if example is NONE:
        return found
    return {**found, "example": msgspec.json.encode(example).decode() + "\n"}


def _is_bytes(item: dict[str, Any]) -> bool:
    return "contentEncoding" in item
