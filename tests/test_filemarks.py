"""A file's mark changes with the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitmsg.filemarks import mark_of

if TYPE_CHECKING:
    from pathlib import Path


def test_a_mark_changes_with_its_file(tmp_path: Path) -> None:
    """When it is written, when another takes its place, and when it goes."""
    file, other = tmp_path / "key", tmp_path / "new"
    file.write_text("one")
    first = mark_of(str(file))
    assert mark_of(str(file)) == first
    file.write_text("three")
    second = mark_of(str(file))
    other.write_text("three")
    other.replace(file)
    third = mark_of(str(file))
    file.unlink()
    assert len({first, second, third, mark_of(str(file))}) == 4
    assert mark_of(str(file)) is None
