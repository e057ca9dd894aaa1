"""References inside a JSON document: ``{"$ref": "#/$defs/Order"}``.

A local reference is a JSON Pointer (RFC 6901) in the fragment of a URI.  Others are never
fetched.  A schema may come from anybody on the bus, so no walk follows a circle, and each
visits a part of the document once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "BrokenReference",
    "alternatives",
    "follow",
    "lookup",
    "references",
    "resolve",
    "rewritten",
]

_MAX_STEPS: Final = 32  # references in a row
_MAX_INDEX_DIGITS: Final = 9
_MAPS: Final = frozenset(
    {"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"}
)
_DATA: Final = frozenset({"default", "enum", "const", "examples", "example"})


class BrokenReference(ValueError):
    """A reference that leads out of its document, in a circle or nowhere."""


def lookup(reference: object, document: Any) -> Any:
    """Return the part of `document` that a local reference names; None if there is none."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    head, *steps = reference[1:].split("/")
    found = None if head else document  # "#name" is an anchor, not a pointer
    for step in steps:
        key = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping):
            found = found.get(key)
        else:
            found = _item(found, key) if isinstance(found, list) else None
    return found


def _item(items: list[Any], key: str) -> Any:
    is_index = key.isascii() and key.isdigit() and len(key) <= _MAX_INDEX_DIGITS
    return items[int(key)] if is_index and int(key) < len(items) else None


def follow(schema: Any, document: Any) -> Any:
    """Return `schema`, or the part of `document` that its references lead to.

    Raises:
        BrokenReference: They lead out of the document, in a circle or nowhere.
    """
    reference: Any = None
    for _ in range(_MAX_STEPS):
        reference = schema.get("$ref") if isinstance(schema, Mapping) else None
        if not isinstance(reference, str):
            return schema
        if not reference.startswith("#"):
            raise BrokenReference(
                f"it refers to {reference!r}, outside the document; bundle it into one"
                " file"
            )
        schema = lookup(reference, document)
        if schema is None:
            raise BrokenReference(f"it refers to {reference!r}, which is not there")
    raise BrokenReference(f"its reference {reference!r} leads in a circle")


def resolve(schema: Any, document: Any) -> Mapping[str, Any]:
    """Return the schema that `follow` finds; an empty one for a broken reference."""
    try:
        found = follow(schema, document)
    except BrokenReference:
        return {}
    return found if isinstance(found, Mapping) else {}


def alternatives(schema: Any, document: Any) -> list[Mapping[str, Any]]:
    """Return the schemas of which a value fits one: the branches, references followed.

    They are in the order of the document, each once; without ``anyOf`` and ``oneOf`` it is
    the schema itself.
    """
    found: list[Mapping[str, Any]] = []
    seen: set[int] = set()
    waiting = [schema]
    while waiting:
        each = resolve(waiting.pop(), document)
        if id(each) in seen:
            continue
        seen.add(id(each))
        branches = [*_listed(each, "anyOf"), *_listed(each, "oneOf")]
        if not branches:
            found.append(each)
        waiting += reversed(branches)
    return found


def _listed(schema: Mapping[str, Any], key: str) -> list[Any]:
    value = schema.get(key)
    return value if isinstance(value, list) else []


def references(schema: Any) -> Iterator[str]:
    """Yield each reference in `schema`, but for those in data, such as a default."""
    waiting = [schema]
    while waiting:
        each = waiting.pop()
        if isinstance(each, list):
            waiting += each
        elif isinstance(each, Mapping):
            reference = each.get("$ref")
            if isinstance(reference, str):
                yield reference
            for key, value in each.items():
                if key in _MAPS and isinstance(value, Mapping):
                    waiting += value.values()
                elif key not in _DATA:
                    waiting.append(value)


def rewritten(schema: Any, rewrite: Callable[[str], str]) -> Any:
    """Return a copy of `schema` in which `rewrite` was applied to each reference."""
    if isinstance(schema, list):
        return [rewritten(item, rewrite) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "$ref" and isinstance(value, str):
            found[key] = rewrite(value)
        elif key in _DATA:
            found[key] = value
        elif key == "mapping" and _leads_on(value):  # of a discriminator (OpenAPI)
            found[key] = {tag: rewrite(each) for tag, each in value.items()}
        elif key in _MAPS and isinstance(value, Mapping):
            found[key] = {
                name: rewritten(item, rewrite) for name, item in value.items()
            }
        else:
            found[key] = rewritten(value, rewrite)
    return found


def _leads_on(value: Any) -> bool:
    """Tell whether a value names a local reference for each tag of a union."""
    return isinstance(value, Mapping) and all(
        isinstance(each, str) and each.startswith("#") for each in value.values()
    )
