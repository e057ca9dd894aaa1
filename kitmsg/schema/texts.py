"""Parameters that are text, such as those of a URL, read as values of a JSON Schema.

A list's items are its texts.  Where text fits too, only a value's own spelling is a value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from kitmsg.codec import DECODE_ERRORS
from kitmsg.errors import InvalidArgument
from kitmsg.schema.pointers import alternatives, resolve

__all__ = ["single", "text_reader"]

Schema: TypeAlias = Mapping[str, Any]

_Convert: TypeAlias = Callable[[str], Any]

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,20}")
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}
_SPELLED: Final = frozenset({"boolean", "integer", "number"})


def single(name: str, texts: list[str]) -> str:
    """Return the one text of a parameter.

    Raises:
        InvalidArgument: There are several.
    """
    if len(texts) > 1:
        raise InvalidArgument(f"{name!r} came more than once", field=name)
    return texts[0]


def text_reader(schema: Schema, root: Schema) -> Callable[[str, list[str]], Any]:
    """Return a function from a parameter's name and texts to its value.

    It raises `InvalidArgument` for texts that fit no value, and names the parameter.

    Args:
        schema: Of the parameter.
        root: The document that it is in.
    """
    kinds = alternatives(schema, root)
    arrays = [kind for kind in kinds if kind.get("type") == "array"]
    if arrays:
        return _array_reader(_scalar(resolve(arrays[0].get("items", {}), root), root))
    convert = _scalar(schema, root)

    def read(name: str, texts: list[str]) -> Any:
        return _converted(convert, name, single(name, texts))

    return read


def _array_reader(convert: _Convert) -> Callable[[str, list[str]], Any]:
    def read(name: str, texts: list[str]) -> Any:
        return [
            _converted(convert, f"{name}[{at}]" if len(texts) > 1 else name, text)
            for at, text in enumerate(texts)
        ]

    return read


def _converted(convert: _Convert, name: str, text: str) -> Any:
    try:
        return convert(text)
    except ValueError as exc:
        raise InvalidArgument(
            f"parameter {name!r} must be {exc}, not {text[:80]!r}", field=name
        ) from None


def _scalar(schema: Schema, root: Schema) -> _Convert:
    """Return a function from text to a value.

    It raises `ValueError` with what was expected.
    """
    kinds = alternatives(schema, root)
    chosen = [value for kind in kinds for value in _values_of(kind)]
    types = {t for kind in kinds if not _values_of(kind) for t in _types(kind)}
    is_text = "string" in types
    steps: dict[str, _Convert] = {}
    if chosen:
        by_text = {v if isinstance(v, str) else _spelled(v): v for v in chosen}
        if "null" in types:
            by_text.setdefault("null", None)
        steps["one of " + ", ".join(by_text)] = by_text.__getitem__
    for name, (expected, convert) in _CONVERT.items():
        if name in types and not (chosen and name == "null"):
            exact = is_text and name in _SPELLED
            steps[expected] = _spelled_so(convert) if exact else convert
    if not steps:
        return str

    def converted(text: str) -> Any:
        for step in steps.values():
            try:
                return step(text)
            except _MISFITS:
                continue
        raise ValueError(" or ".join(steps))

    return converted


def _values_of(kind: Schema) -> list[Any]:
    """Return the only values that a schema allows; none if it does not say."""
    return [*kind.get("enum", ()), *((kind["const"],) if "const" in kind else ())]


def _types(kind: Schema) -> list[str]:
    named = kind.get("type", [])
    return [named] if isinstance(named, str) else list(named)


def _spelled(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _spelled_so(convert: _Convert) -> _Convert:
    """Return `convert` for text that is the value's own spelling, and no other.

    Where text fits too, ``007``, ``+49`` and ``1.10`` are text.
    """

    def exactly(text: str) -> Any:
        value = convert(text)
        if _spelled(value) != text:
            raise ValueError
        return value

    return exactly


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise ValueError
    return int(text)


def _number(text: str) -> float | int:
    if _INTEGER.fullmatch(text):
        return int(text)
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise ValueError
    return value


# From the strictest to the one that takes any text.
_CONVERT: Final[dict[str, tuple[str, _Convert]]] = {
    "null": ("null", {"null": None}.__getitem__),
    "boolean": ("true or false", lambda text: _BOOLEANS[text.lower()]),
    "integer": ("a whole number", _integer),
    "number": ("a number", _number),
    "object": ("a JSON object", msgspec.json.Decoder(dict[str, Any]).decode),
    "string": ("text", str),
}
_MISFITS: Final = (ValueError, LookupError, *DECODE_ERRORS)
