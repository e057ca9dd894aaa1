"""JSON Schemas made schemas of objects, for callers who take and give objects only.

A schema of ours often is a reference with its definitions beside it; here it becomes the
object itself, the definitions staying where references find them.  What a stranger's
schema has in the wrong place is left out.
"""

from __future__ import annotations

from typing import Any, Final

from kitmsg.schema.pointers import references, resolve, rewritten

__all__ = ["as_object", "in_object", "is_object", "with_list"]

_DEFS: Final = "#/$defs/"


def is_object(schema: Any) -> bool:
    """Tell whether a schema describes objects only."""
    return _plain(schema).get("type") == "object"


def as_object(schema: Any) -> dict[str, Any]:
    """Return the schema of an object, with ``properties``; of any object for another."""
    found = _plain(schema)
    if found.get("type", "object") != "object":
        found = {}
    return {"type": "object", "properties": {}, **found}


def in_object(name: str, schema: Any) -> dict[str, Any]:
    """Return the schema of an object with one field, whose schema is given."""
    return _with(as_object({}), name, _plain(schema))


def with_list(schema: dict[str, Any], name: str, item: Any) -> dict[str, Any]:
    """Return the schema of an object with one more field: a list.

    Args:
        schema: Of the object, as `as_object` returns it.
        name: Of the list.
        item: Schema of its items; its definitions get names of their own.
    """
    each = _moved(_plain(item), f"{name}.")
    defs = each.pop("$defs", {})
    array = {"type": "array", "items": each}
    return _with(schema, name, {**array, "$defs": defs} if defs else array)


def _with(schema: dict[str, Any], name: str, field: dict[str, Any]) -> dict[str, Any]:
    defs = {**schema.get("$defs", {}), **field.pop("$defs", {})}
    found = {
        **schema,
        "properties": {**schema["properties"], name: field},
        "required": [*schema.get("required", ()), name],
    }
    return {**found, "$defs": defs} if defs else found


def _plain(schema: Any) -> dict[str, Any]:
    """Return a schema whose root is no reference, with the definitions that it needs."""
    if not isinstance(schema, dict):
        return {}
    found = {**resolve(schema, schema), **schema}
    for name in ("$ref", "$defs", "title"):
        found.pop(name, None)
    for name, kind in (("properties", dict), ("required", list)):
        if not isinstance(found.get(name), kind):
            found.pop(name, None)
    defs = schema.get("$defs")
    if isinstance(defs, dict):
        used = set(references([found, list(defs.values())]))
        defs = {name: each for name, each in defs.items() if _DEFS + name in used}
        found |= {"$defs": defs} if defs else {}
    return found


def _moved(schema: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Return a schema whose definitions have other names, with `prefix` in front."""

    def moved(reference: str) -> str:
        is_ours = reference.startswith(_DEFS)
        return _DEFS + prefix + reference.removeprefix(_DEFS) if is_ours else reference

    found: dict[str, Any] = rewritten(schema, moved)
    if "$defs" in found:
        found["$defs"] = {prefix + name: each for name, each in found["$defs"].items()}
    return found
