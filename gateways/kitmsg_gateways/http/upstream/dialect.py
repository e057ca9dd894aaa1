"""Schemas of OpenAPI documents as JSON Schema 2020-12, with all they refer to.

Source: OpenAPI 3.0.3, "Schema Object"; OpenAPI 3.1.0, which is JSON Schema already.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kitmsg.schema import pointers
from kitmsg.schema.pointers import references

__all__ = ["Unreadable", "complete", "follow", "modern"]

_LOCAL: Final = "#/components/schemas/"
_MAPS: Final = ("properties", "patternProperties", "$defs")
_DATA: Final = ("default", "enum", "const", "examples")
_DROPPED: Final = ("xml", "externalDocs", "discriminator", "example", "nullable")
_BINARY: Final = ("byte", "binary")


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
