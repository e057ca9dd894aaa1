"""The typed errors that an OpenAPI document tells of, as classes.

A kitmsg gateway describes each as a problem whose ``error`` is a name and whose ``details``
are its fields.  Such an error goes on with its name and fields, so that a typed client on
the bus raises its own class.
"""

from __future__ import annotations

import keyword
from collections.abc import Iterator, Mapping
from typing import Any, Final

from kitmsg.errors import BusinessError, Code
from kitmsg_gateways.http.upstream.dialect import follow, modern
from kitmsg_gateways.upstream.errors import error_class

__all__ = ["errors_of"]

_KIND: Final = "application/problem+json"
_MAX_DEPTH: Final = 4
_LEAVES: Final[dict[str, Any]] = {
    "boolean": bool,
    "integer": int,
    "number": float,
    "string": str,
    "null": None,
    "object": dict[str, Any],
    "array": list[Any],
}


def errors_of(
    responses: Any, document: Mapping[str, Any]
) -> tuple[type[BusinessError], ...]:
    """Return a class for each typed error of an operation.

    Args:
        responses: Of the operation, by status.
        document: Where references lead.
    """
    found: dict[str, type[BusinessError]] = {}
    for status, response in responses.items() if isinstance(responses, Mapping) else ():
        content = follow(response, document).get("content") or {}
        schema = (content.get(_KIND) or {}).get("schema") or {}
        for name, details in _typed(schema, document, _MAX_DEPTH):
            made = _made(name, details, str(status))
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


def _made(
    name: str, details: Mapping[str, Any], status: str
) -> type[BusinessError] | None:
    """Return the class of an error; None if Python has no such class."""
    properties = details.get("properties") or {}
    required = set(details.get("required") or ())
    if not all(map(_is_name, (name, *properties))):
        return None
    fields = sorted(properties, key=lambda field: field not in required)
    try:
        return error_class(
            name,
            {f: _annotation(properties[f]) for f in fields},
            defaults={
                f: properties[f].get("default") for f in fields if f not in required
            },
            doc=str(details.get("description") or name),
            code=Code.from_http(int(status)) if status.isdigit() else Code.UNKNOWN,
        )
    except (TypeError, ValueError):
        return None  # a field has the name of what every error has


def _is_name(text: str) -> bool:
    return text.isidentifier() and not keyword.iskeyword(text) and text[0] != "_"


def _annotation(schema: Any) -> Any:
    """Return the type of a field; what is more than a leaf is anything."""
    named = schema.get("type")
    if named == "string" and schema.get("contentEncoding") == "base64":
        return bytes
    if isinstance(named, list) and len(named) == 2 and "null" in named:  # noqa: PLR2004
        (other,) = [each for each in named if each != "null"]
        return _LEAVES.get(other, Any) | None if other in _LEAVES else Any
    return _LEAVES.get(named, Any) if isinstance(named, str) else Any
