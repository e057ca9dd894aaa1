"""Which Python files changed: what ``kitmsg dev`` follows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from kitmsg.errors import FailedPrecondition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

__all__ = ["changed_files", "relative"]

_FIRST_LOOK_MS: Final = 500


async def changed_files(folders: list[Path], since: float) -> AsyncIterator[list[str]]:
    """Give the files of each change, relative to the current folder, as it happens.

    Args:
        folders: What to watch, with everything below.
        since: Files written after this moment count as changed, in Unix seconds.

    Raises:
        FailedPrecondition: watchfiles is not installed.
    """
    try:
        from watchfiles import PythonFilter, awatch
    except ImportError as exc:
        raise FailedPrecondition("reload is off: pip install 'kitmsg[cli]'") from exc
    changes = awatch(
        *folders,
        watch_filter=PythonFilter(),
        rust_timeout=_FIRST_LOOK_MS,
        yield_on_timeout=True,
    )
    is_first = True
    async for change in changes:
        paths = {path for _, path in change}
        if is_first:  # what changed before anybody watched
            is_first = False
            paths |= _newer(folders, since)
        if paths:
            yield relative(paths)


def relative(paths: Iterable[Path | str]) -> list[str]:
    """Return paths relative to the current folder, sorted, each once."""
    return sorted({os.path.relpath(path) for path in paths})


def _newer(folders: list[Path], moment: float) -> set[str]:
    files = (file for folder in folders for file in folder.glob("*.py"))
    return {str(file) for file in files if file.stat().st_mtime > moment}
