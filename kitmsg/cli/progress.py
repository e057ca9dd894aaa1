"""Progress of a long command: one line on standard error, where that is a terminal."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["Progress"]

_INTERVAL: Final = 0.1
_FIRST: Final = 0.5  # seconds that nobody minds
_CLEAR: Final = "\r\033[K"


class Progress:
    """A line that is written over again, and gone at the end; also a context manager.

    Args:
        total: How many there are; 0 where nobody knows.
        shares: Whether standard output goes to the same terminal and has lines of its own:
            then nothing is shown.
        stream: Where it is shown; by default standard error.
        clock: Gives seconds.
    """

    def __init__(
        self,
        total: int = 0,
        *,
        shares: bool = False,
        stream: Any = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._is_shown = self._stream.isatty() and not (shares and sys.stdout.isatty())
        self._total = total
        self._clock = clock
        self._next_at = clock() + _FIRST
        self._is_dirty = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._is_dirty:
            self._write(_CLEAR)

    def at(self, count: int) -> None:
        """Show that so many are done."""
        if not self._is_shown or (now := self._clock()) < self._next_at:
            return
        self._next_at = now + _INTERVAL
        self._is_dirty = True
        of = f" of {self._total:,} ({count / self._total:.0%})" if self._total else ""
        self._write(f"{_CLEAR}{count:,}{of}")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
