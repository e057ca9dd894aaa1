"""JSON Schema 2020-12 of the types that travel, for people and for gateways.

The bounds that hold every number to 64 bits and to finite values are said as
``"format": "int64"`` and left out; those a user set stay.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from kitmsg.schema.generator import Mode, generate
from kitmsg.schema.types import FLOAT_MAX, INT_MAX, INT_MIN

__all__ = ["closed", "digest", "json_schema"]

_MAPS = ("properties", "$defs", "patternProperties")
_DATA = ("default", "enum", "const", "examples")


def json_schema(type_: Any, mode: Mode = "serialization") -> dict[str, Any]:
    """Return the JSON Schema of a type, its named types under ``$defs``.

    Args:
        type_: The type.
        mode: ``validation`` for what goes into a service, ``serialization`` for what comes
            out of it: pydantic models differ in the two.
    """
    schema, definitions = generate(type_, mode)
    hoisted: dict[str, Any] = {}
    schema = _tidy(schema, hoisted)
    named = {name: _tidy(item, hoisted) for name, item in definitions.items()}
    named = {**hoisted, **named}
    return {**schema, "$defs": named} if named else schema


def closed(schema: Any) -> Any:
    """Return `schema` with every object refusing the fields that it does not name."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    shut = {k: v if k in _DATA else closed(v) for k, v in schema.items()}
    if shut.get("type") == "object" and "properties" in shut:
        shut.setdefault("additionalProperties", False)
    return shut


def digest(*schemas: dict[str, Any]) -> str:
    """Return 16 hexadecimal digits that change when one of `schemas` does."""
    text = json.dumps(schemas, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _tidy(schema: Any, hoisted: dict[str, Any]) -> Any:
    """Return `schema` without our own bounds; inner ``$defs`` move to `hoisted`."""
    if isinstance(schema, list):
        return [_tidy(item, hoisted) for item in schema]
    if not isinstance(schema, dict):
        return schema
    tidy: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _DATA:
            tidy[key] = value
        elif key in _MAPS:
            tidy[key] = {name: _tidy(item, hoisted) for name, item in value.items()}
        else:
            tidy[key] = _tidy(value, hoisted)
    hoisted.update(tidy.pop("$defs", {}))
    tidy.pop("uniqueItems", None)  # a set takes an item twice, and keeps it once
    return _unbounded(tidy)


def _unbounded(schema: dict[str, Any]) -> dict[str, Any]:
    kind = schema.get("type")
    low, high = {
        "integer": (INT_MIN, INT_MAX),
        "number": (-FLOAT_MAX, FLOAT_MAX),
    }.get(kind if isinstance(kind, str) else "", (None, None))
    if low is None:
        return schema
    if schema.get("minimum") == low:
        del schema["minimum"]
    if schema.get("maximum") == high:
        del schema["maximum"]
    if kind == "integer":
        schema.setdefault("format", "int64")
    return schema
