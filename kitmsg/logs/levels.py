"""Levels of loggers for a while: set now, and back by themselves.

Loggers belong to the process, so their levels do: `LEVELS` is the one place that changes
them at run time, whatever asks for it.  `kitmsg.worker.levels` takes the orders of
``kitmsg log-level`` from the bus.
"""

from __future__ import annotations

import asyncio
import difflib
import logging
from typing import TYPE_CHECKING, Final

import msgspec

from kitmsg.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "LEVELS",
    "LEVEL_NAMES",
    "MAX_SECONDS",
    "RESET",
    "LevelChange",
    "LevelOrder",
    "LevelReport",
    "Levels",
]

LEVEL_NAMES: Final = ("debug", "info", "warning", "error", "critical")
"""Levels that can be set."""

RESET: Final = "reset"
"""In place of a level: back to how it was, now."""

MAX_SECONDS: Final = 86_400.0
"""Longest time that a level may be set for, in seconds."""

_log = logging.getLogger("kitmsg.logs")


class LevelOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order to a process, as ``kitmsg log-level`` sends it.

    Attributes:
        level: One of `LEVEL_NAMES`, or `RESET`; "" to be told only.
        logger: Whose; "" for all that have no level of their own.
        seconds: How long, up to `MAX_SECONDS`.
    """

    level: str = ""
    logger: str = ""
    seconds: float = 600.0


class LevelChange(msgspec.Struct, frozen=True, kw_only=True):
    """One logger whose level is another for now.

    Attributes:
        logger: Its name; "" for the root.
        level: Its level now.
        normally: Its level otherwise; "" for that of the logger above it.
        seconds: Left until then.
    """

    logger: str
    level: str
    normally: str
    seconds: float


class LevelReport(msgspec.Struct, frozen=True, kw_only=True):
    """The levels of one process, as it answers an order.

    Attributes:
        name: What it was asked as, such as ``orders`` or ``gateway.http``.
        id: Of the instance.
        place: Host and process id.
        level: Of the root logger, now.
        changes: The loggers that an order has changed.
        error: Why the order was refused; "" if it was not.
    """

    name: str
    id: str
    place: str
    level: str
    changes: list[LevelChange]
    error: str = ""


class Levels:
    """Levels that orders have changed, in one process; used on its event loop."""

    def __init__(self) -> None:
        # By logger: its level before the first order, and what puts that back.
        self._normal: dict[str, int] = {}
        self._ends: dict[str, asyncio.TimerHandle] = {}

    def obey(self, order: LevelOrder) -> None:
        """Set a level for a while, or put it back.

        Raises:
            InvalidArgument: There is no such level or logger, or it is for too long.
        """
        if not order.level:
            return
        _check(order)
        if order.level == RESET:
            self._reset(order.logger)
            return
        logger = logging.getLogger(order.logger or None)
        self._normal.setdefault(order.logger, logger.level)
        if order.logger in self._ends:
            self._ends[order.logger].cancel()
        # Before the change, or the line itself might not be written.
        self._say(order.logger, f"{order.level} for {order.seconds:g} s")
        logger.setLevel(order.level.upper())
        loop = asyncio.get_running_loop()
        end: Callable[[str], None] = self._reset
        self._ends[order.logger] = loop.call_later(order.seconds, end, order.logger)

    def changes(self) -> list[LevelChange]:
        """Return the loggers whose levels are others for now, by name."""
        now = asyncio.get_running_loop().time()
        return [
            LevelChange(
                logger=name,
                level=_name(logging.getLogger(name or None).level),
                normally=_name(self._normal[name]),
                seconds=round(max(0.0, self._ends[name].when() - now), 1),
            )
            for name in sorted(self._normal)
        ]

    def _reset(self, name: str) -> None:
        normal, end = self._normal.pop(name, None), self._ends.pop(name, None)
        if normal is None or end is None:
            return
        end.cancel()
        logging.getLogger(name or None).setLevel(normal)
        self._say(name, f"{_name(normal) or 'that of the logger above it'} again")

    def _say(self, name: str, what: str) -> None:
        _log.warning("the log level of %s is %s", name or "this process", what)


LEVELS: Final = Levels()
"""Of this process."""


def _check(order: LevelOrder) -> None:
    if order.level not in (*LEVEL_NAMES, RESET):
        raise InvalidArgument(
            f"there is no level {order.level[:40]!r}; choose"
            f" {', '.join(LEVEL_NAMES)} or {RESET}"
        )
    if not 0 < order.seconds <= MAX_SECONDS:
        raise InvalidArgument(
            f"a level is set for up to {MAX_SECONDS:g} s, not {order.seconds:g} s"
        )
    known = logging.root.manager.loggerDict
    # One that is not there would be made, and stay: a peer could make any number of them.
    if order.logger and order.logger not in known:
        near = difflib.get_close_matches(order.logger[:200], known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InvalidArgument(f"there is no logger {order.logger[:200]!r} here{hint}")


def _name(level: int) -> str:
    return "" if level == logging.NOTSET else logging.getLevelName(level).lower()
