"""Schemas of OpenAPI documents as JSON Schema 2020-12, with all they refer to.

Source: OpenAPI 3.0.3, "Schema Object"; OpenAPI 3.1.0, which is JSON Schema already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

__all__ = ["Unreadable", "complete", "follow", "modern"]

_LOCAL: Final = "#/components/schemas/"
_MAPS: Final = ("properties", "patternProperties", "$defs")
_DATA: Final = ("default", "enum", "const", "examples")
_DROPPED: Final = ("xml", "externalDocs", "discriminator", "example", "nullable")
_BINARY: Final = ("byte", "binary")
_MAX_STEPS: Final = 32


class Unreadable(ValueError):
    """A part of a document that an upstream cannot use; the message says why."""


def follow(thing: Any, document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `thing`, or what its ``$ref`` leads to in `document`.

    Raises:
        Unreadable: It leads out of the document, or nowhere.
    """
    reference: Any = None
    for _ in range(_MAX_STEPS):
        if not isinstance(thing, Mapping):
            raise Unreadable("it has a part that is no object")
        reference = thing.get("$ref")
        if not isinstance(reference, str):
            return thing
        thing = _target(reference, document)
    raise Unreadable(f"its reference {reference!r} leads in a circle")


def _target(reference: str, document: Mapping[str, Any]) -> Any:
    if not reference.startswith("#/"):
        raise Unreadable(
            f"it refers to {reference!r}, outside the document; bundle it into one file"
        )
    found: Any = document
    for step in reference.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        found = found.get(key) if isinstance(found, Mapping) else None
    if found is None:
        raise Unreadable(f"it refers to {reference!r}, which is not there")
    return found


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
    waiting = list(_references(schema))
    while waiting:
        reference = waiting.pop()
        name = reference.removeprefix("#/$defs/")
        if name in definitions:
            continue
        if name == reference or "/" in name:
            raise Unreadable(
                f"it refers to {reference!r}; only {_LOCAL}... can be followed"
            )
        there = _target(_LOCAL + name, document)
        definitions[name] = modern(there)
        waiting += _references(definitions[name])
    if not definitions:
        return schema
    return {**schema, "$defs": dict(sorted(definitions.items()))}


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, list):
        for item in schema:
            yield from _references(item)
    elif isinstance(schema, Mapping):
        reference = schema.get("$ref")
        if isinstance(reference, str):
            yield reference
        for key, value in schema.items():
            if key not in _DATA:
                yield from _references(value)
