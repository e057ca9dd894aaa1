"""Names for generated code, made from any text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["camel", "fold", "plain", "snake", "unique"]

_MARKS: Final = re.compile(r"[^a-z0-9]")
_HUMPS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def camel(text: str) -> str:
    """Return `text` as a CamelCase identifier; capitals inside stay."""
    words = re.findall(r"[A-Za-z0-9]+", text)
    joined = "".join(word[0].upper() + word[1:] for word in words)
    return joined if joined[:1].isalpha() else f"X{joined}"


def snake(text: str) -> str:
    """Return `text` as a snake_case identifier."""
    joined = "_".join(re.findall(r"[A-Za-z0-9]+", _HUMPS.sub("_", text))).lower()
    return joined if joined[:1].isalpha() else f"x_{joined}" if joined else "x"


def unique(name: str, taken: Collection[str]) -> str:
    """Return `name`, or with a number behind it, such that it is not in `taken`.

    Case and underscores do not count, as in protobuf's rules.

    Args:
        name: The name that is wanted.
        taken: Names, as `plain` makes them.
    """
    chosen, number = name, 1
    while plain(chosen) in taken:
        number += 1
        chosen = f"{name}_{number}"
    return chosen


def plain(name: str) -> str:
    """Return the key by which names clash: neither case nor underscores count."""
    return name.replace("_", "").lower()


def fold(name: str) -> str:
    """Return the key by which spellings are one name: ``getUser`` is ``get-user``."""
    return _MARKS.sub("", name.lower())
