"""Classes for errors that are known by their JSON Schema only: the way back of `errortype`."""

from __future__ import annotations

import keyword
import types
from typing import TYPE_CHECKING, Any, Final

from kitmsg.errors import BusinessError, Code

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["error_class"]

_LEAVES: Final[dict[str, Any]] = {
    "boolean": bool,
    "integer": int,
    "number": float,
    "string": str,
    "object": dict[str, Any],
    "array": list[Any],
}


def error_class(
    name: str, schema: Mapping[str, Any], *, doc: str, code: Code = Code.UNKNOWN
) -> type[BusinessError] | None:
    """Return the class of an error that a server declares; None if Python has none such.

    A typed client on the bus that has a class of this name and these fields raises it.

    Args:
        name: Of the class.
        schema: JSON Schema of the object of its fields.
        doc: Docstring of the class.
        code: Its code.
    """
    properties = schema.get("properties") or {}
    required = set(schema.get("required") or ())
    if not all(map(_is_name, (name, *properties))):
        return None
    fields = sorted(properties, key=lambda field: field not in required)
    body = {
        "__annotations__": {f: _annotation(properties[f]) for f in fields},
        "__doc__": doc,
        "__module__": __name__,
        "code": code,
        **{f: properties[f].get("default") for f in fields if f not in required},
    }
    try:
        return types.new_class(
            name, (BusinessError,), exec_body=lambda n: n.update(body)
        )
    except (TypeError, ValueError):
        return None  # a field has the name of what every error has


def _is_name(text: str) -> bool:
    return text.isidentifier() and not keyword.iskeyword(text) and text[0] != "_"


def _annotation(schema: Any) -> Any:
    """Return the type of a field; what is more than a leaf is anything."""
    named = schema.get("type")
    names = named if isinstance(named, list) else [named]
    leaves = [each for each in names if each != "null"]
    if len(leaves) != 1 or leaves[0] not in _LEAVES:
        return Any
    is_bytes = schema.get("contentEncoding") == "base64"
    leaf = bytes if is_bytes and leaves == ["string"] else _LEAVES[leaves[0]]
    return leaf | None if "null" in names else leaf
