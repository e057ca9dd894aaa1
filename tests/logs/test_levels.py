"""Levels are set for a while, and go back by themselves."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from kitmsg.errors import InvalidArgument
from kitmsg.logs.levels import LevelOrder, Levels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kitmsg.service import Kit

NAME = "tests.levels"


@pytest.fixture(autouse=True)
def loggers() -> Iterator[None]:
    """The root logger's level, put back; a logger that is there."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.WARNING)
    logging.getLogger(NAME).setLevel(logging.NOTSET)
    yield
    root.setLevel(before)


async def test_a_level_goes_back_by_itself(kit: Kit) -> None:
    """When its time is over, to what it was."""
    del kit  # for its virtual time
    levels = Levels()
    levels.obey(LevelOrder(level="debug", seconds=600))
    await asyncio.sleep(599)
    assert logging.getLogger().level == logging.DEBUG
    (change,) = levels.changes()
    assert (change.logger, change.level, change.normally) == ("", "debug", "warning")
    assert change.seconds == 1.0
    await asyncio.sleep(2)
    assert logging.getLogger().level == logging.WARNING
    assert levels.changes() == []


async def test_a_later_order_counts_from_the_first_level(kit: Kit) -> None:
    """And gives its own time."""
    del kit
    levels = Levels()
    levels.obey(LevelOrder(level="debug", seconds=10))
    levels.obey(LevelOrder(level="error", seconds=100))
    await asyncio.sleep(50)
    assert logging.getLogger().level == logging.ERROR
    await asyncio.sleep(51)
    assert logging.getLogger().level == logging.WARNING


async def test_one_logger_is_set_alone(kit: Kit) -> None:
    """It inherits again afterwards, at once with reset."""
    del kit
    levels = Levels()
    logger = logging.getLogger(NAME)
    levels.obey(LevelOrder(level="debug", logger=NAME, seconds=10))
    assert logger.isEnabledFor(logging.DEBUG)
    assert not logging.getLogger("other").isEnabledFor(logging.DEBUG)
    assert levels.changes()[0].normally == ""
    levels.obey(LevelOrder(level="reset", logger=NAME))
    assert logger.level == logging.NOTSET
    levels.obey(LevelOrder(level="reset", logger=NAME))  # nothing to put back
    await asyncio.sleep(20)
    assert levels.changes() == []


@pytest.mark.parametrize(
    ("order", "sentence"),
    [
        (LevelOrder(level="loud"), "no level 'loud'; choose debug, info"),
        (LevelOrder(level="debug", seconds=0), "up to 86400 s, not 0 s"),
        (LevelOrder(level="debug", seconds=1e6), "up to 86400 s, not 1e"),
        (
            LevelOrder(level="debug", logger="tests.level"),
            "did you mean 'tests.levels'",
        ),
    ],
)
async def test_a_wrong_order_changes_nothing(order: LevelOrder, sentence: str) -> None:
    """It is refused with a sentence, and makes no logger."""
    levels = Levels()
    with pytest.raises(InvalidArgument, match=sentence):
        levels.obey(order)
    assert levels.changes() == []
    assert "tests.level" not in logging.root.manager.loggerDict
