"""Files that change while the gateway runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from kitmsg.errors import InvalidArgument
from kitmsg_gateways.edge.files import Files

if TYPE_CHECKING:
    from pathlib import Path


class Reader:
    """Reads words from two files; the word "bad" cannot be used."""

    def __init__(self, folder: Path) -> None:
        self.paths = [folder / "a", folder / "b"]
        for path in self.paths:
            path.write_text("one")
        self.words = ["one", "one"]
        self.read = asyncio.Event()

    @property
    def files(self) -> tuple[str, ...]:
        """Both."""
        return tuple(map(str, self.paths))

    def reload(self) -> None:
        """Read both."""
        self.read.set()
        words = [path.read_text() for path in self.paths if path.exists()]
        if "bad" in words:
            raise InvalidArgument("this word is bad")
        self.words = words


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """A reader of two files."""
    return Reader(tmp_path)


async def test_what_changed_is_read_again(reader):
    """And only then."""
    files = Files([reader], 3600)
    files.look()
    assert not reader.read.is_set()
    reader.paths[1].write_text("three")
    files.look()
    assert reader.words == ["one", "three"]
    reader.read.clear()
    files.look()
    assert not reader.read.is_set()


async def test_a_bad_file_changes_nothing(reader, caplog):
    """It is logged once, and the next change is tried again."""
    files = Files([reader], 3600)
    reader.paths[0].write_text("bad")
    files.look()
    files.look()
    assert reader.words == ["one", "one"]
    assert caplog.text.count("this word is bad; what was read before goes on") == 1
    reader.paths[0].write_text("good")
    files.look()
    assert reader.words == ["good", "one"]


async def test_a_file_that_is_gone_for_a_moment(reader):
    """Some programs write by deleting first."""
    files = Files([reader], 3600)
    reader.paths[0].unlink()
    reader.paths[1].write_text("bad")
    files.look()
    reader.paths[0].write_text("two")
    reader.paths[1].write_text("two")
    files.look()
    assert reader.words == ["two", "two"]


async def test_they_are_looked_at_now_and_then(reader):
    """Until the end."""
    files = Files([reader], 0.01)
    files.start()
    reader.paths[0].write_text("two!")
    async with asyncio.timeout(10):
        await reader.read.wait()
    files.stop()
    assert reader.words[0] == "two!"


async def test_everything_is_read_when_told(reader):
    """Changed or not."""
    Files([reader], 3600).look(is_forced=True)
    assert reader.read.is_set()
