"""Values that hold for a while: what was checked a moment ago need not be again."""

from __future__ import annotations

from time import monotonic
from typing import Generic, TypeVar

__all__ = ["Recent"]

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """A bounded memory of values, each with its own end.

    Args:
        most: Values that are kept; those that were put last.
    """

    def __init__(self, most: int = 4096) -> None:
        self._most = most
        self._kept: dict[K, tuple[V, float]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: K) -> V | None:
        """Return a value that still holds; else None."""
        found = self._kept.get(key)
        if found is None:
            return None
        if monotonic() < found[1]:
            return found[0]
        del self._kept[key]
        return None

    def put(self, key: K, value: V, seconds: float) -> None:
        """Keep a value for some seconds; for none when they are not positive."""
        if seconds <= 0:
            return
        self._kept.pop(key, None)
        self._kept[key] = value, monotonic() + seconds
        if len(self._kept) > self._most:
            del self._kept[next(iter(self._kept))]

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
