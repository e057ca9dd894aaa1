"""CloudEvents in a request: structured, binary, or a batch.

Source: CloudEvents 1.0.2, "HTTP Protocol Binding" and "JSON Event Format".
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import msgspec

from kitmsg.errors import InvalidArgument
from kitmsg_gateways.edge.events import Posted
from kitmsg_gateways.http.errors import refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multidict import MultiMapping

__all__ = ["BATCH", "STRUCTURED", "read_events"]

STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"

_ANY: Final = "application/cloudevents"
_PREFIX: Final = "ce-"
_SPEC: Final = "1.0"
_BROKEN: Final = (msgspec.DecodeError, RecursionError)
_CORE: Final = frozenset(
    {
        *("specversion", "id", "type", "source", "time", "dataschema"),
        *("data", "data_base64", "datacontenttype"),
    }
)
_TEXTS: Final = _CORE | {"subject"}

_one: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_many: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode


def read_events(headers: MultiMapping[str], body: bytes) -> tuple[list[Posted], bool]:
    """Return the events in a request, and whether they are a batch.

    Raises:
        InvalidArgument: One is malformed; its attribute is named.
        Problem: 415; it is in a format that is not understood.
    """
    named = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if named == BATCH:
        given = _decoded(_many, body, "an array of events")
        return [_structured(one, f"[{at}]") for at, one in enumerate(given)], True
    if named == STRUCTURED:
        return [_structured(_decoded(_one, body, "an event"), "")], False
    if named.startswith(_ANY):
        raise refusal(
            415,
            f"Content-Type {named[:80]!r} is not understood; send {STRUCTURED}, {BATCH},"
            " or the data as the body and the attributes as headers such as ce-id",
            field="Content-Type",
        )
    return [_binary(headers, named, body)], False


def _decoded(decode: Any, body: bytes, what: str) -> Any:
    try:
        return decode(body)
    except _BROKEN as error:
        raise InvalidArgument(f"the body is not {what} in JSON: {error}") from None


def _structured(given: Mapping[str, msgspec.Raw], place: str) -> Posted:
    """Return an event in the JSON format."""
    texts = {
        name: _text(raw, _at(place, name), is_core=name in _TEXTS)
        for name, raw in given.items()
        if name not in ("data", "data_base64")
    }
    said = {name: text for name, text in texts.items() if text is not None}
    media = said.get("datacontenttype", "")
    if media and not _is_json(media):
        field = _at(place, "datacontenttype")
        raise InvalidArgument(
            f"{field} must be application/json, not {media[:80]!r}", field=field
        )
    raw = bytes(given.get("data", b"")) or b"{}"
    if "data_base64" in given:
        raw = _base64(given["data_base64"], "data" in given, place)
    return _posted(said, raw, place)


def _base64(given: msgspec.Raw, has_data: bool, place: str) -> bytes:
    field = _at(place, "data_base64")
    if has_data:
        raise InvalidArgument(f"{field} stands beside data; send one", field=field)
    try:
        return base64.b64decode(msgspec.json.decode(given, type=str), validate=True)
    except (*_BROKEN, binascii.Error, ValueError):
        raise InvalidArgument(f"{field} is no base64 text", field=field) from None


def _binary(headers: MultiMapping[str], media: str, body: bytes) -> Posted:
    """Return an event whose attributes are headers."""
    if media and not _is_json(media):
        raise refusal(
            415,
            f"Content-Type {media[:80]!r} is not understood; the data of an event is"
            " application/json",
            field="Content-Type",
        )
    said: dict[str, str] = {}
    for key, value in headers.items():
        name = key.lower()
        if not name.startswith(_PREFIX):
            continue
        if name.removeprefix(_PREFIX) in said:
            raise InvalidArgument(f"header {name} came more than once", field=name)
        plain = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        said[name.removeprefix(_PREFIX)] = unquote(plain)
    if "id" not in said:
        raise InvalidArgument(
            f"header ce-id is missing: send a CloudEvent as {STRUCTURED}, or with the"
            " headers ce-specversion, ce-id, ce-source and ce-type",
            field="ce-id",
        )
    return _posted(said, body or b"{}", "")


def _posted(said: Mapping[str, str], raw: bytes, place: str) -> Posted:
    for name in ("specversion", "id", "source", "type"):
        if name not in said:
            field = _at(place, name)
            raise InvalidArgument(f"{field} is missing", field=field)
    if said["specversion"] != _SPEC:
        field = _at(place, "specversion")
        raise InvalidArgument(
            f"{field} must be {_SPEC!r}, not {said['specversion'][:20]!r}", field=field
        )
    field = _at(place, "data")
    try:
        data = msgspec.json.decode(raw)
    except _BROKEN as error:
        raise InvalidArgument(f"{field} is no JSON: {error}", field=field) from None
    if not isinstance(data, dict):
        raise InvalidArgument(f"{field} must be an object", field=field)
    return Posted(
        id=said["id"],
        source=said["source"],
        type=said["type"],
        time=said.get("time", ""),
        schema=said.get("dataschema", ""),
        data=data,
        raw=raw,
        more={name: text for name, text in said.items() if name not in _CORE},
        place=place,
    )


def _text(raw: msgspec.Raw, field: str, *, is_core: bool) -> str | None:
    """Return the text of an attribute; None for one that is null, and so not there.

    Those of the specification's own are text; an extension may be a number or a boolean.
    """
    value = msgspec.json.decode(raw)
    if value is None or isinstance(value, str):
        return value
    if is_core:
        raise InvalidArgument(f"{field} must be text", field=field)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    raise InvalidArgument(f"{field} must be text", field=field)


def _at(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _is_json(media: str) -> bool:
    kind = media.partition(";")[0].strip().lower()
    return kind in ("application/json", "text/json") or kind.endswith("+json")
