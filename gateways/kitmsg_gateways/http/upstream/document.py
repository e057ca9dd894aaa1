"""An OpenAPI document: loaded from a file or a URL, its references followed, its schemas.

Schemas become JSON Schema 2020-12, with all that they refer to.  Source: OpenAPI 3.0.3,
"Schema Object"; OpenAPI 3.1.0, which is JSON Schema already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from kitmsg.schema import pointers
from kitmsg.schema.pointers import references
from kitmsg_gateways.http.upstream.operation import HttpRequest

if TYPE_CHECKING:
    from kitmsg_gateways.http.upstream.options import UpstreamOptions

__all__ = [
    "OpenApi",
    "Unreadable",
    "complete",
    "follow",
    "load_document",
    "modern",
    "parse",
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

    Args:
        source: A path, or ``http(s)://...``.
        options: Limits and headers for fetching it.

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
    from kitmsg_gateways.http import package

    package.load()
    from kitmsg.errors import Unavailable
    from kitmsg_gateways.http.upstream.client import HttpClient
    from kitmsg_gateways.upstream.roundrobin import CannotConnect

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
