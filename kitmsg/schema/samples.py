"""Sample values for JSON Schemas: what a schema declares, else something that fits.

Where nothing simple fits (a pattern, a ``not``), there is no sample rather than a wrong one;
a rough sample is for people, who see what to change, and has one all the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from kitmsg.schema.live import Budget, check_size

__all__ = ["NONE", "Samples"]

Resolve: TypeAlias = Callable[[Any], Mapping[str, Any]]

NONE: Final = object()
"""Stands for no sample; None is one."""

_MAX_DEPTH: Final = 6
_MAX_ITEMS: Final = 16
_MAX_TEXT: Final = 256
_MAX_STEPS: Final = 1000  # for one sample, and values in it
_MAX_STEPS_IN_ALL: Final = 200_000  # for the samples of a document
_BY_FORMAT: Final = {
    "date": "2030-01-01",
    "date-time": "2030-01-01T12:00:00Z",
    "decimal": "9.99",
    "duration": "PT1H",
    "time": "12:00:00Z",
    "uuid": "6f1c9f5e-2f6b-4d3a-9a51-0c3f9d0b7c11",
}
_HARD: Final = frozenset({"pattern", "not", "if", "allOf", "dependentSchemas"})
_NULL: Final = {"type": "null"}


class Samples:
    """Makes samples.

    Args:
        resolve: Returns a schema, or the one that it refers to.
        word: Returns a text for a field of that name; "" for what is no field.
        is_rough: Whether a sample has required fields only, and may not fit.
    """

    def __init__(
        self,
        resolve: Resolve,
        word: Callable[[str], str] = lambda _: "text",
        *,
        is_rough: bool = False,
    ) -> None:
        self._resolve = resolve
        self._word = word
        self._is_rough = is_rough
        self._all = Budget(_MAX_STEPS_IN_ALL)
        self._steps = Budget(_MAX_STEPS)

    def of(self, schema: Any) -> Any:
        """Return a value that fits `schema`; `NONE` if none is easily found."""
        self._steps = Budget(_MAX_STEPS)
        try:
            found = self._of(schema, "", 0)
            check_size(found, _MAX_STEPS)
        except (TypeError, ValueError, AttributeError, ArithmeticError):
            return NONE  # a service may say what it likes
        return found

    def _of(self, schema: Any, name: str, depth: int) -> Any:
        self._all.spend()
        self._steps.spend()
        plain = self._resolve(schema)
        if not plain:
            return self._word(name) if self._is_rough else {}
        for said in (schema, plain):  # beside a reference, then behind it
            told = _told(said)
            if told is not NONE:
                return told
        is_hard = bool(_HARD & plain.keys()) and not self._is_rough
        if depth > _MAX_DEPTH or is_hard:
            return NONE
        branches = [*plain.get("anyOf", ()), *plain.get("oneOf", ())]
        if branches:
            branches.sort(key=lambda branch: branch == _NULL)
            found = (self._of(branch, name, depth + 1) for branch in branches)
            return next((one for one in found if one is not NONE), NONE)
        named = plain.get("type", "object" if "properties" in plain else "")
        kind = named[0] if isinstance(named, list) and named else named
        make = _MAKERS.get(kind if isinstance(kind, str) else "")
        return NONE if make is None else make(self, plain, name, depth)

    def _object(self, plain: Mapping[str, Any], _: str, depth: int) -> Any:
        required = set(plain.get("required", ()))
        is_rough = self._is_rough
        if plain.get("minProperties", 0) > len(required) and not is_rough:
            return NONE
        made: dict[str, Any] = {}
        for name, schema in plain.get("properties", {}).items():
            if name not in required and (depth or is_rough):
                continue
            value = self._of(schema, name, depth + 1)
            if value is not NONE:
                made[name] = value
            elif name in required and not is_rough:
                return NONE
        return made if required <= made.keys() or is_rough else NONE

    def _array(self, plain: Mapping[str, Any], name: str, depth: int) -> Any:
        fixed = [self._of(one, name, depth + 1) for one in plain.get("prefixItems", ())]
        least = plain.get("minItems", 0)
        most = plain.get("maxItems", _MAX_ITEMS)
        if NONE in fixed or least > _MAX_ITEMS:
            return NONE
        wanted = max(least, min(len(fixed) or 1, most))
        more, items = NONE, plain.get("items", False)
        if wanted > len(fixed) and items is not False:
            more = self._of(items, name, depth + 1)
        if more is NONE:
            return fixed if len(fixed) >= least else NONE
        is_set = plain.get("uniqueItems") and wanted - len(fixed) > 1
        return NONE if is_set else fixed + [more] * (wanted - len(fixed))

    def _text(self, plain: Mapping[str, Any], name: str, _: int) -> Any:
        if "contentEncoding" in plain:
            return "aGk="
        least, most = plain.get("minLength", 0), plain.get("maxLength", math.inf)
        made: Any = _BY_FORMAT.get(plain.get("format", ""))
        if made is None and (self._is_rough or "format" not in plain):
            made = self._word(name).ljust(min(least, _MAX_TEXT + 1), ".")
            made = made if len(made) <= most else made[: int(most)]
        is_fit = made is not None and least <= len(made) <= most
        return made if is_fit and least <= _MAX_TEXT else NONE


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


def _integer(_: Samples, plain: Mapping[str, Any], *__: Any) -> Any:
    step = plain.get("multipleOf", 1)
    low, high = _bounds(plain, 1)
    if step != int(step):
        return NONE
    made = 1 if low <= 1 <= high else int(low if low > -math.inf else high)
    made = math.ceil(made / step) * int(step)
    return made if low <= made <= high else NONE


def _number(_: Samples, plain: Mapping[str, Any], *__: Any) -> Any:
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


_Maker: TypeAlias = Callable[[Samples, Mapping[str, Any], str, int], Any]
_MAKERS: Final[dict[str, _Maker]] = {
    "object": Samples._object,  # noqa: SLF001  the same file
    "array": Samples._array,  # noqa: SLF001
    "string": Samples._text,  # noqa: SLF001
    "integer": _integer,
    "number": _number,
    "boolean": lambda *_: True,
    "null": lambda *_: None,
}
