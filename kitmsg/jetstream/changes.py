"""Entries of a bucket, and the backlog of a watch."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Self

__all__ = ["Changes", "Entry"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A key at one revision.

    Attributes:
        key: The key.
        value: Its value; b"" where it is gone.
        revision: Number of the write; later writes to the bucket have larger ones.
        created: When it was written, in seconds on the store's clock (`KeyValue.now`).
        gone: Whether that write removed it; only watches show such entries.
    """

    key: str
    value: bytes
    revision: int
    created: float
    gone: bool = False


class Changes:
    """Entries in the order of their last writes; an iterator that waits for more.

    Bounded by the number of keys: a newer entry takes the place of one that still waits.
    A removal is shown only where the value before it was told of.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, Entry] = {}
        self._known: set[str] = set()  # keys with a value, as far as told
        self._error: Exception | None = None
        self._came = asyncio.Event()

    def tell(self, entry: Entry) -> None:
        """Add an entry; one of the same key that still waits goes."""
        if entry.gone:
            if entry.key not in self._known:
                return
            self._known.discard(entry.key)
        else:
            self._known.add(entry.key)
        self._waiting.pop(entry.key, None)
        self._waiting[entry.key] = entry
        self._came.set()

    def fail(self, error: Exception) -> None:
        """End the iteration with `error`, once all that waits is handed over."""
        self._error = error
        self._came.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Entry:
        while not self._waiting:
            if self._error is not None:
                raise self._error
            self._came.clear()
            await self._came.wait()
        return self._waiting.pop(next(iter(self._waiting)))
