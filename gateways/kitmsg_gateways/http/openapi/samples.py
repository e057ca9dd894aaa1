"""Example values, made from JSON Schemas: what a schema declares, else something that fits.

Where nothing simple fits (a pattern, a ``not``), there is no example rather than a wrong
one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

__all__ = ["NONE", "Samples"]

Resolve: TypeAlias = Callable[[Any], Mapping[str, Any]]

NONE: Final = object()
"""Stands for no example; None is one."""

_MAX_DEPTH: Final = 6
_MAX_ITEMS: Final = 16
_TEXT: Final = "text"
_BY_FORMAT: Final = {
    "date": "2030-01-31",
    "date-time": "2030-01-31T12:00:00Z",
    "decimal": "1.5",
    "duration": "PT1S",
    "time": "12:00:00Z",
    "uuid": "6f1c9f5e-2f6b-4d3a-9a51-0c3f9d0b7c11",
}
_HARD: Final = frozenset({"pattern", "not", "if", "allOf", "dependentSchemas"})


class Samples:
    """Makes examples."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve

    def of(self, schema: Any) -> Any:
        """Return a value that fits `schema`; `NONE` if none is easily found."""
        try:
            return self._of(schema, 0)
        except (TypeError, ValueError, AttributeError, ArithmeticError):
            return NONE  # a service may say what it likes

    def _of(self, schema: Any, depth: int) -> Any:
        plain = self._resolve(schema)
        if not plain:
            return {}
        for said in (schema, plain):  # beside a reference, then behind it
            told = _told(said)
            if told is not NONE:
                return told
        if depth > _MAX_DEPTH or _HARD & plain.keys():
            return NONE
        branches = [*plain.get("anyOf", ()), *plain.get("oneOf", ())]
        if branches:
            found = (self._of(branch, depth + 1) for branch in branches)
            return next((one for one in found if one is not NONE), NONE)
        named = plain.get("type", "object" if "properties" in plain else "")
        kind = named[0] if isinstance(named, list) and named else named
        make = _MAKERS.get(kind if isinstance(kind, str) else "")
        return NONE if make is None else make(self, plain, depth)

    def _object(self, plain: Mapping[str, Any], depth: int) -> Any:
        required = set(plain.get("required", ()))
        if plain.get("minProperties", 0) > len(required):
            return NONE
        made: dict[str, Any] = {}
        for name, schema in plain.get("properties", {}).items():
            if name not in required and depth:
                continue
            value = self._of(schema, depth + 1)
            if value is not NONE:
                made[name] = value
            elif name in required:
                return NONE
        return made if required <= made.keys() else NONE

    def _array(self, plain: Mapping[str, Any], depth: int) -> Any:
        fixed = [self._of(one, depth + 1) for one in plain.get("prefixItems", ())]
        least = plain.get("minItems", 0)
        most = plain.get("maxItems", _MAX_ITEMS)
        if NONE in fixed or least > _MAX_ITEMS:
            return NONE
        wanted = max(least, min(len(fixed) or 1, most))
        more = NONE
        if wanted > len(fixed) and plain.get("items") is not False:
            more = self._of(plain.get("items", {}), depth + 1)
        if more is NONE:
            return fixed if len(fixed) >= least else NONE
        is_set = plain.get("uniqueItems") and wanted - len(fixed) > 1
        return NONE if is_set else fixed + [more] * (wanted - len(fixed))


def _told(plain: Mapping[str, Any]) -> Any:
    """Return the value that a schema itself gives; `NONE` for none."""
    examples = plain.get("examples")
    if isinstance(examples, list) and examples:
        return examples[0]
    for name in ("example", "const"):
        if name in plain:
            return plain[name]
    choices = plain.get("enum")
    if isinstance(choices, list) and choices:
        return choices[0]
    default = plain.get("default")
    return default if default not in (None, "", [], {}) else NONE


def _text(_: Samples, plain: Mapping[str, Any], __: int) -> Any:
    if "contentEncoding" in plain:
        return "aGk="
    least, most = plain.get("minLength", 0), plain.get("maxLength", math.inf)
    named = plain.get("format")
    if named is not None:
        made = _BY_FORMAT.get(named, NONE)
        return made if isinstance(made, str) and least <= len(made) <= most else NONE
    if least > _MAX_ITEMS * _MAX_ITEMS:
        return NONE
    made = _TEXT + "a" * (least - len(_TEXT))
    return made if len(made) <= most else made[: int(most)]


def _integer(_: Samples, plain: Mapping[str, Any], __: int) -> Any:
    step = plain.get("multipleOf", 1)
    low, high = _bounds(plain, 1)
    if step != int(step):
        return NONE
    made = 1 if low <= 1 <= high else int(low if low > -math.inf else high)
    made = math.ceil(made / step) * int(step)
    return made if low <= made <= high else NONE


def _number(_: Samples, plain: Mapping[str, Any], __: int) -> Any:
    if "multipleOf" in plain:
        return NONE
    low, high = _bounds(plain, 0.5)
    if low <= 1.5 <= high:  # noqa: PLR2004  shows that it need not be whole
        return 1.5
    made = low if low > -math.inf else high
    return made if low <= made <= high else NONE


def _bounds(plain: Mapping[str, Any], inside: float) -> tuple[float, float]:
    """Return the bounds of a number; exclusive ones are drawn in by `inside`."""
    low = max(
        plain.get("minimum", -math.inf),
        plain.get("exclusiveMinimum", -math.inf) + inside,
    )
    high = min(
        plain.get("maximum", math.inf), plain.get("exclusiveMaximum", math.inf) - inside
    )
    return low, high


_Maker: TypeAlias = Callable[[Samples, Mapping[str, Any], int], Any]
_MAKERS: Final[dict[str, _Maker]] = {
    "object": Samples._object,  # noqa: SLF001  the same file
    "array": Samples._array,  # noqa: SLF001
    "string": _text,
    "integer": _integer,
    "number": _number,
    "boolean": lambda *_: True,
    "null": lambda *_: None,
}
