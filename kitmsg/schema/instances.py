"""Plain values checked against a JSON Schema, and brought into one form.

For endpoints that a schema describes and no class does: a value that came as JSON or
msgpack becomes dicts, lists, text, numbers and, where the schema says base64, bytes.
Checked are kinds, required and unknown fields, enumerations, bounds and lengths; formats of
text where they are asked for.  Left to whoever carries the call out: patterns, and rarer
words of JSON Schema.
"""

from __future__ import annotations

import base64
import binascii
import math
import operator
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, TypeAlias
from uuid import UUID

import msgspec

from kitmsg.codec import as_step, join, refusal, unknown_field
from kitmsg.schema.pointers import lookup

__all__ = ["validator"]

Fit: TypeAlias = Callable[[Any, str], Any]
"""Takes a value and its path; returns it in its one form, or raises `InvalidArgument`."""

_MAX_DEPTH: Final = 100
_BITS: Final = {"int32": 31, "int64": 63}
_KINDS: Final[dict[str, str]] = {
    "bool": "boolean",
    "int": "integer",
    "float": "number",
    "str": "string",
    "list": "array",
    "dict": "object",
    "NoneType": "null",
    "bytes": "bytes",
}
_FORMATS: Final[dict[str, type]] = {
    "uuid": UUID,
    "date": date,
    "date-time": datetime,
    "time": time,
    "duration": timedelta,
    "decimal": Decimal,
}


def validator(
    schema: Mapping[str, Any], *, formats: bool = False
) -> Callable[[Any], Any]:
    """Return a function that checks a value and returns it in its one form.

    It raises `InvalidArgument`, naming the field, for a value that does not fit.

    Args:
        schema: JSON Schema; its references lead into itself.
        formats: Whether text has to be in the format that it says, such as ``uuid``.

    Raises:
        ValueError: It is no schema.
    """
    try:
        fit = _Compiler(schema, formats=formats).compile(schema)
    except (AttributeError, TypeError, RecursionError) as exc:
        raise ValueError(f"this is no JSON Schema: {exc}") from exc

    def check(value: Any) -> Any:
        try:
            return fit(value, "")
        except RecursionError:  # references that lead in a circle
            raise refusal("", "is nested too deeply") from None

    return check


class _Compiler:
    """Makes one function of each subschema.

    Args:
        root: Where references lead.
        formats: Whether formats of text are checked.
    """

    def __init__(self, root: Mapping[str, Any], *, formats: bool = False) -> None:
        self._root = root
        self._formats = _FORMATS if formats else {}
        self._known: dict[str, Fit] = {}

    def compile(self, schema: Any) -> Fit:
        """Return the function of `schema`; one that takes anything if it is no schema."""
        if schema is False:
            return _nothing
        if not isinstance(schema, Mapping):
            return _anything
        reference = schema.get("$ref")
        if isinstance(reference, str):
            return self._referred(reference)
        steps = [self._one(schema)]
        steps += [
            _first_of([self.compile(each) for each in schema[key]])
            for key in ("anyOf", "oneOf")
            if schema.get(key)
        ]
        steps += [self.compile(each) for each in schema.get("allOf", ())]
        steps = [step for step in steps if step is not _anything]
        return _each_of(steps)

    def _referred(self, reference: str) -> Fit:
        """Return what a reference leads to, which may lead back to itself."""
        if reference not in self._known:
            self._known[reference] = _anything  # until it is known
            self._known[reference] = self.compile(lookup(reference, self._root))
        known = self._known

        def fit(value: Any, path: str) -> Any:
            if path.count(".") + path.count("[") > _MAX_DEPTH:
                raise refusal(path, "is nested too deeply")
            return known[reference](value, path)

        return fit

    def _one(self, schema: Mapping[str, Any]) -> Fit:
        """Return the function of what a schema says of kind and value."""
        named = schema.get("type")
        kinds = [named] if isinstance(named, str) else list(named or ())
        if not kinds:
            kinds = ["object"] if "properties" in schema else []
        if "enum" in schema or "const" in schema:
            return _choice(schema.get("enum") or [schema.get("const")])
        fits = {kind: self._kind(kind, schema) for kind in kinds}
        return _by_kind(fits) if fits else _anything

    def _kind(self, kind: str, schema: Mapping[str, Any]) -> Fit:
        if kind == "object":
            return self._object(schema)
        if kind == "array":
            item = self.compile(schema.get("items", True))
            return _array(item, *_lengths(schema, "Items"))
        if kind == "string":
            return self._text(schema)
        if kind in ("integer", "number"):
            return _number(schema, is_integer=kind == "integer")
        return _anything

    def _text(self, schema: Mapping[str, Any]) -> Fit:
        if schema.get("contentEncoding") == "base64":
            return _bytes
        text, named = _string(*_lengths(schema, "Length")), str(schema.get("format"))
        if named not in self._formats:
            return text
        return _each_of([text, _formatted(named, self._formats[named])])

    def _object(self, schema: Mapping[str, Any]) -> Fit:
        fields = {
            name: self.compile(each)
            for name, each in schema.get("properties", {}).items()
        }
        required = tuple(schema.get("required", ()))
        others = schema.get("additionalProperties", True)
        rest = None if others is False else self.compile(others)

        def fit(value: Any, path: str) -> Any:
            for name in required:
                if name not in value:
                    raise refusal(join(path, name), "is missing")
            found = {}
            for name, item in value.items():
                field = fields.get(name, rest)
                if field is None:
                    problem = unknown_field(list(fields))
                    raise refusal(join(path, as_step(str(name))), problem)
                found[name] = field(item, join(path, as_step(str(name))))
            return found

        return fit


def _anything(value: Any, _path: str) -> Any:
    return value


def _nothing(_value: Any, path: str) -> Any:
    raise refusal(path, "is not allowed")


def _each_of(steps: list[Fit]) -> Fit:
    if len(steps) <= 1:
        return steps[0] if steps else _anything

    def fit(value: Any, path: str) -> Any:
        for step in steps:
            value = step(value, path)
        return value

    return fit


def _first_of(branches: list[Fit]) -> Fit:
    from kitmsg.errors import InvalidArgument

    def fit(value: Any, path: str) -> Any:
        problems = []
        for branch in branches:
            try:
                return branch(value, path)
            except InvalidArgument as exc:
                problems.append(exc)
        # The one that got farthest into the value says most.
        raise max(problems, key=lambda exc: len(exc.field))

    return fit


def _by_kind(fits: Mapping[str, Fit]) -> Fit:
    expected = " or ".join(fits)

    def fit(value: Any, path: str) -> Any:
        kind = _kind_of(value)
        if kind == "integer" and kind not in fits:
            kind = "number"
        if kind == "number" and kind not in fits and float(value).is_integer():
            kind, value = "integer", int(value)
        step = fits.get(kind)
        if step is None and kind in ("bytes", "other") and "string" in fits:
            step = fits["string"]  # msgpack has bytes and times of its own
        if step is None:
            raise refusal(path, f"expected {expected}, got {kind}")
        return step(value, path)

    return fit


def _kind_of(value: Any) -> str:
    return _KINDS.get(type(value).__name__, "other")


def _choice(values: list[Any]) -> Fit:
    spelled = ", ".join(msgspec.json.encode(value).decode() for value in values)

    def fit(value: Any, path: str) -> Any:
        if not any(value == each and type(value) is type(each) for each in values):
            raise refusal(path, f"expected one of {spelled}")
        return value

    return fit


def _lengths(schema: Mapping[str, Any], what: str) -> tuple[int, float]:
    return schema.get(f"min{what}", 0), schema.get(f"max{what}", math.inf)


def _array(item: Fit, least: int, most: float) -> Fit:
    def fit(value: Any, path: str) -> Any:
        if not least <= len(value) <= most:
            raise refusal(path, f"expected {_spelled(least, most)} items")
        return [item(each, f"{path}[{at}]") for at, each in enumerate(value)]

    return fit


def _string(least: int, most: float) -> Fit:
    def fit(value: Any, path: str) -> Any:
        if not isinstance(value, str):
            value = msgspec.to_builtins(value)
        if not isinstance(value, str):
            raise refusal(path, f"expected string, got {_kind_of(value)}")
        if not least <= len(value) <= most:
            raise refusal(path, f"expected {_spelled(least, most)} characters")
        return value

    return fit


def _formatted(name: str, type_: type) -> Fit:
    def fit(value: Any, path: str) -> Any:
        try:
            msgspec.convert(value, type_)
        except msgspec.ValidationError:
            raise refusal(path, f"expected {name}") from None
        return value

    return fit


def _spelled(least: float, most: float) -> str:
    return f"{least} to {most}" if most < math.inf else f"at least {least}"


def _bytes(value: Any, path: str) -> Any:
    if isinstance(value, bytes):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise refusal(path, "expected bytes, as base64 text") from None


def _number(schema: Mapping[str, Any], *, is_integer: bool) -> Fit:
    bits = _BITS.get(str(schema.get("format", ""))) if is_integer else None
    bounds: list[tuple[Any, Callable[[Any, Any], bool], str]] = [
        (schema.get("minimum"), operator.ge, ">="),
        (schema.get("maximum"), operator.le, "<="),
        (schema.get("exclusiveMinimum"), operator.gt, ">"),
        (schema.get("exclusiveMaximum"), operator.lt, "<"),
    ]
    kept = [each for each in bounds if type(each[0]) in (int, float)]

    def fit(value: Any, path: str) -> Any:
        if bits is not None and not -(1 << bits) <= value < 1 << bits:
            raise refusal(path, f"expected a {bits + 1}-bit integer")
        for bound, holds, sign in kept:
            if not holds(value, bound):
                raise refusal(path, f"expected a number {sign} {bound}")
        return value

    return fit
