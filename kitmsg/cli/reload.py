"""Watches Python files for changes, for the reload of ``kitmsg dev``."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kitmsg.errors import FailedPrecondition

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Changes", "can_follow", "relative"]

_FIRST_LOOK_MS: Final = 500


class Changes:
    """Changed Python files, as they happen: an iterator over the names of each change.

    They are relative to the current folder.

    Args:
        folders: What to watch, with everything below.
        since: Files written after this moment count as changed, in Unix seconds.

    Raises:
        FailedPrecondition: watchfiles is not installed.
    """

    def __init__(self, folders: Iterable[Path], since: float) -> None:
        can_follow()
        self._since = since
        self._found: asyncio.Queue[set[str]] = asyncio.Queue()
        # Folders whose files are watched already; a deep one stands for those below it.
        self._deep: set[Path] = set()
        self._flat: set[Path] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        deep = {folder.resolve() for folder in folders}
        self._deep |= deep
        self._start(deep, is_deep=True)

    def note(self, folders: Iterable[str]) -> None:
        """Watch the files in `folders` too, not what is below, unless they are watched."""
        wanted = {Path(folder).resolve() for folder in folders} - self._flat
        fresh = {f for f in wanted if f.is_dir() and not self._is_below(f)}
        self._flat |= fresh
        self._start(fresh, is_deep=False)

    def close(self) -> None:
        """Watch no more."""
        for task in self._tasks:
            task.cancel()

    def __aiter__(self) -> Changes:
        return self

    async def __anext__(self) -> list[str]:
        return relative(await self._found.get())

    def _is_below(self, folder: Path) -> bool:
        return any(folder.is_relative_to(each) for each in self._deep)

    def _start(self, folders: set[Path], *, is_deep: bool) -> None:
        if folders:
            work = self._follow(folders, is_deep=is_deep)
            self._tasks.add(asyncio.create_task(work))

    async def _follow(self, folders: set[Path], *, is_deep: bool) -> None:
        from watchfiles import PythonFilter, awatch

        changes = awatch(
            *folders,
            watch_filter=PythonFilter(),
            rust_timeout=_FIRST_LOOK_MS,
            yield_on_timeout=True,
            recursive=is_deep,
        )
        is_first = True
        async for change in changes:
            paths = {path for _, path in change}
            if is_first:  # what changed before anybody watched
                is_first = False
                paths |= set(_newer(folders, self._since, is_deep=is_deep))
            if paths:
                self._found.put_nowait(paths)


def can_follow() -> None:
    """Check that changes can be followed.

    Raises:
        FailedPrecondition: watchfiles is not installed.
    """
    try:
        import watchfiles  # noqa: F401
    except ImportError as exc:
        raise FailedPrecondition("reload is off: pip install 'kitmsg[cli]'") from exc


def relative(paths: Iterable[Path | str]) -> list[str]:
    """Return paths relative to the current folder, sorted, each once."""
    return sorted({os.path.relpath(path) for path in paths})


def _newer(folders: Iterable[Path], moment: float, *, is_deep: bool) -> Iterator[str]:
    """Yield the Python files that were written after `moment`."""
    for folder in folders:
        for place, below, names in os.walk(folder):
            hidden = [n for n in below if n.startswith(".") or n == "node_modules"]
            below[:] = [name for name in below if is_deep and name not in hidden]
            files = [os.path.join(place, n) for n in names if n.endswith(".py")]
            yield from (file for file in files if os.path.getmtime(file) > moment)
