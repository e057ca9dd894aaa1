"""Receivers that all tests of a process share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["started"]

S = TypeVar("S")

_started: dict[Any, Any] = {}


def started(make: Callable[[], S]) -> S:
    """Return a server, started when it is first asked for."""
    if make not in _started:
        _started[make] = make()
    return cast("S", _started[make])
