"""Names in protobuf: identifiers made of any text, different where protobuf compares them.

Its rules count neither case nor underscores: ``a_b`` and ``aB`` are one name in JSON.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from kitmsg.idl.naming import plain, unique

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["field_name", "package_name", "spelled", "value_name"]

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def package_name(service: str) -> str:
    """Return the package of a service."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", service)
    return name if _IDENTIFIER.fullmatch(name) else f"x_{name}"


def spelled(
    numbers: Mapping[str, int],
    name_of: Callable[[str], str],
    taken: set[str] | None = None,
) -> dict[str, str]:
    """Return a name for each key; of two alike, the lower number has it.

    Args:
        numbers: Numbers by key: they do not change, so names do not.
        name_of: Makes a name.
        taken: Names that are gone; gets these.
    """
    gone = set() if taken is None else taken
    names: dict[str, str] = {}
    for key, number in sorted(numbers.items(), key=lambda item: abs(item[1])):
        name = name_of(key)
        if plain(name) in gone:
            name = unique(f"{name}_{abs(number)}", gone)
        gone.add(plain(name))
        names[key] = name
    return names


def field_name(key: str) -> str:
    """Return a key as an identifier: itself, if it is one."""
    if _IDENTIFIER.fullmatch(key) and plain(key):
        return key
    name = re.sub(r"[^A-Za-z0-9_]", "_", key)
    return f"x{name}" if not name[:1].isalpha() else name


def value_name(key: str) -> str:
    """Return an enum's value as a part of an identifier."""
    text = re.sub(r"^-(?=\d)", "MINUS_", key)
    text = re.sub(r"[^A-Za-z0-9]", _character, text)
    return text.upper() or "EMPTY"


def _character(match: re.Match[str]) -> str:
    char = match[0]
    return "_" if char in "_-./: " else f"U{ord(char):X}"
