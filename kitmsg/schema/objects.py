"""JSON Schemas made schemas of objects, for callers who take and give objects only.

A schema of ours often is a reference with its definitions beside it; here it becomes the
object itself, the definitions staying where references find them.  What a stranger's
schema has in the wrong place is left out.
"""

from __future__ import annotations

from typing import Any, Final

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
    if not isinstance(found.get("properties"), dict):
        found["properties"] = {}
    return {"type": "object", **found}


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
    """Return a schema whose root is no reference, without a title."""
    if not isinstance(schema, dict):
        return {}
    found = dict(schema)
    defs, reference = found.get("$defs"), found.get("$ref")
    if not isinstance(defs, dict):
        found.pop("$defs", None)
    elif isinstance(reference, str) and reference.startswith(_DEFS):
        root = defs.get(reference.removeprefix(_DEFS))
        if isinstance(root, dict):
            del found["$ref"]
            found = {**root, **found}
            _drop_unused(found, reference.removeprefix(_DEFS))
    found.pop("title", None)
    return found


def _drop_unused(schema: dict[str, Any], name: str) -> None:
    """Drop a definition that has become the root, unless it refers to itself."""
    defs = {key: each for key, each in schema["$defs"].items() if key != name}
    if _refers({**schema, "$defs": defs}, _DEFS + name):
        return
    schema["$defs"] = defs
    if not defs:
        del schema["$defs"]


def _refers(schema: Any, reference: str) -> bool:
    if isinstance(schema, list):
        return any(_refers(each, reference) for each in schema)
    if not isinstance(schema, dict):
        return False
    is_it = schema.get("$ref") == reference
    return is_it or any(_refers(each, reference) for each in schema.values())


def _moved(schema: Any, prefix: str) -> Any:
    """Return a schema whose definitions have other names, with `prefix` in front."""
    if isinstance(schema, list):
        return [_moved(each, prefix) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _moved(value, prefix) for key, value in schema.items()}
    defs, reference = found.get("$defs"), found.get("$ref")
    if isinstance(defs, dict):
        found["$defs"] = {prefix + key: each for key, each in defs.items()}
    if isinstance(reference, str) and reference.startswith(_DEFS):
        found["$ref"] = _DEFS + prefix + reference.removeprefix(_DEFS)
    return found
