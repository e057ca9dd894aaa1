"""Changes of Python files are seen; without watchfiles a sentence says what to install."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import pytest

from kitmsg.cli.reload import changed_files, relative
from kitmsg.errors import FailedPrecondition

if TYPE_CHECKING:
    from pathlib import Path


async def test_sees_what_changed_before_it_watched(tmp_path: Path) -> None:
    """A file written between a start and the first look counts as changed."""
    started = time.time() - 1.0
    (tmp_path / "a.py").write_text("x = 1")
    changes = changed_files([tmp_path], started)
    assert await anext(changes) == relative([tmp_path / "a.py"])


async def test_sees_changes_and_only_of_python(tmp_path: Path) -> None:
    """What is not Python does not count."""
    changes = changed_files([tmp_path], time.time() - 1.0)
    (tmp_path / "note.txt").write_text("x")
    (tmp_path / "b.py").write_text("x = 1")
    assert await anext(changes) == relative([tmp_path / "b.py"])


async def test_without_watchfiles_it_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The missing extra is named."""
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(FailedPrecondition, match=r"pip install 'kitmsg\[cli\]'"):
        await anext(changed_files([tmp_path], 0.0))
