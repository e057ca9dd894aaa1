"""An OpenAPI document: loaded from a file or a URL, its references followed, its schemas.

Schemas become JSON Schema 2020-12, with all that they refer to.  Source: OpenAPI 3.0.3,
"Schema Object"; OpenAPI 3.1.0, which is JSON Schema already.

A kitmsg gateway describes a typed error as a problem whose ``error`` is a name and whose
``details`` are its fields.  Such an error goes on with its name and fields, so that a typed
client on the bus raises its own class.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from kitmsg.errors import BusinessError, Code
from kitmsg.schema import pointers
from kitmsg.schema.errorclass import error_class
from kitmsg.schema.pointers import references
from kitmsg_gateways.http.options import EXTRA
from kitmsg_gateways.http.upstream.operation import FORM, HttpRequest

if TYPE_CHECKING:
    from kitmsg_gateways.http.upstream.options import UpstreamOptions

__all__ = [
    "STREAMS",
    "Body",
    "OpenApi",
    "Result",
    "Unreadable",
    "body_of",
    "complete",
    "errors_of",
    "follow",
    "load_document",
    "modern",
    "parse",
    "response_of",
]

_SECONDS: Final = 30.0
_OK: Final = 200
_LOCAL: Final = "#/components/schemas/"
_MAPS: Final = ("properties", "patternProperties", "$defs")
_DATA: Final = ("default", "enum", "const", "examples")
_DROPPED: Final = ("xml", "externalDocs", "discriminator", "example", "nullable")
_BINARY: Final = ("byte", "binary")


@dataclass(frozen=True, slots=True)
class OpenApi:
    """A document of OpenAPI 3.0 or 3.1, parsed."""

    document: Mapping[str, Any]


class Unreadable(ValueError):
    """A part of a document that an upstream cannot use; the message says why."""


def follow(thing: Any, document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `thing`, or the object that its ``$ref`` leads to in `document`.

    Raises:
        Unreadable: It leads out of the document, or nowhere.
    """
    found = _target(thing, document)
    if not isinstance(found, Mapping):
        raise Unreadable("it has a part that is no object")
    return found


def _target(thing: Any, document: Mapping[str, Any]) -> Any:
    try:
        return pointers.follow(thing, document)
    except pointers.BrokenReference as exc:
        raise Unreadable(str(exc)) from exc


def modern(schema: Any) -> Any:
    """Return a schema in JSON Schema's words; references lead to ``$defs`` then."""
    if isinstance(schema, list):
        return [modern(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _DATA:
            found[key] = value
        elif key in _MAPS and isinstance(value, Mapping):
            found[key] = {name: modern(item) for name, item in value.items()}
        elif key not in _DROPPED:
            found[key] = modern(value)
    reference = found.get("$ref")
    if isinstance(reference, str):
        found["$ref"] = reference.replace(_LOCAL, "#/$defs/", 1)
    if found.get("format") in _BINARY and found.get("type") == "string":
        del found["format"]
        found["contentEncoding"] = "base64"
    _bounds(found)
    return _nullable(found) if schema.get("nullable") is True else found


def _bounds(found: dict[str, Any]) -> None:
    """Write ``exclusiveMinimum: true`` as 2020-12 does."""
    for exclusive, bound in (
        ("exclusiveMinimum", "minimum"),
        ("exclusiveMaximum", "maximum"),
    ):
        if found.get(exclusive) is True and bound in found:
            found[exclusive] = found.pop(bound)
        elif isinstance(found.get(exclusive), bool):
            del found[exclusive]


def _nullable(found: dict[str, Any]) -> dict[str, Any]:
    named = found.get("type")
    if not isinstance(named, str):
        return {"anyOf": [found, {"type": "null"}]}
    found["type"] = [named, "null"]
    if "enum" in found and None not in found["enum"]:
        found["enum"] = [*found["enum"], None]
    return found


def complete(schema: dict[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a modern schema with the definitions that it needs under ``$defs``.

    Raises:
        Unreadable: A reference leads out of the document, or nowhere.
    """
    definitions: dict[str, Any] = {}
    waiting = list(references(schema))
    while waiting:
        reference = waiting.pop()
        name = reference.removeprefix("#/$defs/")
        if name in definitions:
            continue
        if name == reference or "/" in name:
            raise Unreadable(
                f"it refers to {reference!r}; only {_LOCAL}... can be followed"
            )
        definitions[name] = modern(_target({"$ref": _LOCAL + name}, document))
        waiting += references(definitions[name])
    if not definitions:
        return schema
    return {**schema, "$defs": dict(sorted(definitions.items()))}


async def load_document(source: str, options: UpstreamOptions) -> Mapping[str, Any]:
    """Return the document at a path or a URL.

    Raises:
        ValueError: It is not there, or is no document.
        Unavailable: Its server cannot be reached.
    """
    if source.startswith(("http://", "https://")):
        return parse(await _fetched(source, options), source)
    try:
        data = await asyncio.to_thread(Path(source).read_bytes)
    except OSError as exc:
        raise ValueError(f"cannot read {source}: {exc.strerror}") from exc
    return parse(data, source)


async def _fetched(url: str, options: UpstreamOptions) -> bytes:
    EXTRA.load()
    from kitmsg.errors import Unavailable
    from kitmsg_gateways.http.upstream.client import HttpClient
    from kitmsg_gateways.upstream.pool import CannotConnect

    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    client = HttpClient("the document's server", options)
    try:
        base = f"{parts.scheme}://{parts.netloc}"
        reply = await client.send(base, None, HttpRequest("GET", target, {}), _SECONDS)
    except CannotConnect as exc:
        raise Unavailable(f"cannot fetch {url}: {exc}") from exc
    finally:
        await client.close()
    if reply.status != _OK:
        raise ValueError(f"cannot fetch {url}: the server answered {reply.status}")
    return reply.body


def parse(data: bytes, source: str) -> Mapping[str, Any]:
    """Return a document, parsed.

    Args:
        data: JSON, or YAML where PyYAML is installed.
        source: Where it is from, for messages.

    Raises:
        ValueError: It is neither, or no object.
    """
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        found = _yaml(data, source, exc)
    if not isinstance(found, Mapping):
        raise ValueError(  # noqa: TRY004  the fault is in the document, not the call
            f"{source} is no OpenAPI document: it is no object"
        )
    return found


def _yaml(data: bytes, source: str, problem: Exception) -> Any:
    if data.lstrip()[:1] in (b"{", b"["):
        raise ValueError(f"{source} is not valid JSON: {problem}") from problem
    try:
        import yaml
    except ImportError as exc:
        raise ValueError(f"{source} is not JSON; for YAML: pip install pyyaml") from exc
    try:
        return yaml.safe_load(data)
    except (yaml.YAMLError, RecursionError, ValueError) as exc:
        raise ValueError(f"{source} is neither JSON nor YAML: {exc}") from exc


STREAMS: Final = ("text/event-stream", "application/x-ndjson", "application/jsonl")
"""Media types of streams: each event, or each line, is an item."""

_WHOLE: Final = "body"
_PROBLEM: Final = "application/problem+json"
_MAX_DEPTH: Final = 4
_BYTES: Final = {"type": "string", "contentEncoding": "base64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """The body of a request.

    Attributes:
        fields: Schemas of the request's fields that go there, by name.
        required: Those that must be there.
        whole: Name of the field that is the body itself; "" if it is an object of them.
        is_open: Whether fields that are not named go there too.
        content_type: How it is written.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    whole: str = ""
    is_open: bool = False
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Result:
    """The result of an operation.

    Attributes:
        schema: Of the result, or of each item of a stream.
        is_stream: Whether items come.
    """

    schema: dict[str, Any]
    is_stream: bool = False


def body_of(given: Any, document: Mapping[str, Any], *, taken: set[str]) -> Body:
    """Return the body of an operation whose parameters have the names in `taken`.

    Raises:
        Unreadable: It has a form that cannot be sent.
    """
    if given is None:
        return Body()
    own = follow(given, document)
    content = own.get("content") or {}
    kind = _preferred(content)
    if kind.startswith("multipart/"):
        raise Unreadable(f"its body is {kind}, which is not supported")
    schema = modern(schema_of(content, kind))
    is_needed = bool(own.get("required"))
    if _is_json(kind) or kind == FORM:
        resolved = modern(follow(schema_of(content, kind), document))
        if _is_flat(resolved) and not taken & {*resolved["properties"], _WHOLE}:
            return _flat(resolved, kind, is_needed=is_needed)
    if kind == FORM:
        raise Unreadable("its body is a form whose fields are not told, or collide")
    name = f"{_WHOLE}_" if _WHOLE in taken else _WHOLE
    if not _is_json(kind):
        schema = {"type": "string"} if kind.startswith("text/") else dict(_BYTES)
    return Body(
        fields={name: schema},
        required=(name,) if is_needed else (),
        whole=name,
        content_type=kind or "application/json",
    )


def schema_of(content: Mapping[str, Any], kind: str) -> Any:
    """Return the schema under a media type; an empty one if there is none."""
    return (content.get(kind) or {}).get("schema") or {}


def _is_flat(schema: Mapping[str, Any]) -> bool:
    """Tell whether a body's fields may stand beside the parameters."""
    return bool(
        isinstance(schema.get("properties"), Mapping)
        and schema["properties"]
        and schema.get("type", "object") == "object"
        and not {"allOf", "anyOf", "oneOf", "not", "if"} & set(schema)
    )


def _flat(schema: Mapping[str, Any], kind: str, *, is_needed: bool) -> Body:
    properties = schema["properties"]
    read_only = {
        name
        for name, one in properties.items()
        if isinstance(one, Mapping) and one.get("readOnly") is True
    }
    needed = schema.get("required", ()) if is_needed else ()
    return Body(
        fields=properties,
        required=tuple(name for name in needed if name not in read_only),
        is_open=schema.get("additionalProperties", True) is not False,
        content_type=kind,
    )


def _preferred(content: Mapping[str, Any]) -> str:
    """Return the media type to use: JSON if there is one, else the first."""
    return next((kind for kind in content if _is_json(kind)), next(iter(content), ""))


def _is_json(kind: str) -> bool:
    plain = kind.partition(";")[0].strip().lower()
    return plain in ("application/json", "*/*") or plain.endswith("+json")


def response_of(given: Any, document: Mapping[str, Any]) -> Result:
    """Return the result of an operation: that of its lowest 2xx status with a body.

    Raises:
        Unreadable: A reference in it leads nowhere.
    """
    responses = given if isinstance(given, Mapping) else {}
    good = sorted(str(status) for status in responses if str(status).startswith("2"))
    for status in good:
        one = responses.get(
            status, responses.get(int(status) if status.isdigit() else "")
        )
        content = follow(one, document).get("content") or {}
        if not content:
            continue
        stream = next((kind for kind in content if kind in STREAMS), "")
        kind = stream or _preferred(content)
        if stream or _is_json(kind):
            return Result(modern(schema_of(content, kind)), bool(stream))
        return Result({"type": "string"} if kind.startswith("text/") else dict(_BYTES))
    return Result({"type": "null"} if good else {})


def errors_of(
    responses: Any, document: Mapping[str, Any]
) -> tuple[type[BusinessError], ...]:
    """Return a class for each typed error of an operation."""
    found: dict[str, type[BusinessError]] = {}
    given = responses if isinstance(responses, Mapping) else {}
    for status, response in ((str(s), r) for s, r in given.items()):
        content = follow(response, document).get("content") or {}
        problem = schema_of(content, _PROBLEM)
        for name, details in _typed(problem, document, _MAX_DEPTH):
            code = Code.from_http(int(status)) if status.isdigit() else Code.UNKNOWN
            doc = str(details.get("description") or name)
            made = error_class(name, details, doc=doc, code=code)
            if made is not None:
                found.setdefault(name, made)
    return tuple(found.values())


def _typed(
    schema: Any, document: Mapping[str, Any], depth: int
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield name and schema of the fields of each typed error in a schema."""
    if not isinstance(schema, Mapping) or not depth:
        return
    own = follow(schema, document)
    properties = own.get("properties") or {}
    name = (properties.get("error") or {}).get("const")
    if isinstance(name, str) and "details" in properties:
        yield name, modern(follow(properties["details"], document))
    for key in ("anyOf", "oneOf", "allOf"):
        for branch in own.get(key) or ():
            yield from _typed(branch, document, depth - 1)
