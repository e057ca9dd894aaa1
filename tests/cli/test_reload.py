"""Changes of Python files are seen; without watchfiles a sentence says what to install."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from kitmsg.cli.reload import Changes, relative
from kitmsg.errors import FailedPrecondition

if TYPE_CHECKING:
    from pathlib import Path


async def test_sees_what_changed_before_it_watched(tmp_path: Path) -> None:
    """A file written between a start and the first look counts as changed, however deep."""
    started = time.time() - 1.0
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "a.py").write_text("x = 1")
    with closing(Changes([tmp_path], started)) as changes:
        assert await anext(changes) == relative([tmp_path / "parts" / "a.py"])


async def test_sees_changes_and_only_of_python(tmp_path: Path) -> None:
    """What is not Python does not count."""
    with closing(Changes([tmp_path], time.time() - 1.0)) as changes:
        (tmp_path / "note.txt").write_text("x")
        (tmp_path / "b.py").write_text("x = 1")
        assert await anext(changes) == relative([tmp_path / "b.py"])


async def test_follows_folders_that_come_later(tmp_path: Path) -> None:
    """A folder of loaded modules is followed once, alone, and not what is below it."""
    own, other = tmp_path / "own", tmp_path / "other"
    for folder in (own / "deep", other / "below"):
        folder.mkdir(parents=True)
    with closing(Changes([own], time.time() + 3600)) as changes:
        changes.note([str(other), str(own / "deep"), str(tmp_path / "gone")])
        changes.note([str(other)])
        await asyncio.sleep(1)  # until the watches stand: nothing tells
        (other / "below" / "c.py").write_text("x = 1")
        (other / "a.py").write_text("x = 1")
        assert await anext(changes) == relative([other / "a.py"])
        (own / "deep" / "b.py").write_text("x = 1")
        assert await anext(changes) == relative([own / "deep" / "b.py"])


async def test_without_watchfiles_it_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The missing extra is named."""
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(FailedPrecondition, match=r"pip install 'kitmsg\[cli\]'"):
        Changes([tmp_path], 0.0)
