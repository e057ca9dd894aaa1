"""Lines for people: time, level, logger, message and fields."""

from __future__ import annotations

import logging
import os
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TextIO

from kitmsg.logs.event import read
from kitmsg.logs.redact import Redactor
from kitmsg.message import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ConsoleFormatter", "uses_colour"]

_COLOURS: Final = {"WARNING": "33", "ERROR": "31", "CRITICAL": "1;31", "DEBUG": "2"}
_SHORT: Final = {"WARNING": "warn", "CRITICAL": "fatal"}
_UNTOLD: Final = "service"  # the endpoint's name begins with it


class ConsoleFormatter(logging.Formatter):
    """Time, level, logger, message and fields; a traceback follows the line.

    Args:
        colour: Whether to use colours.
        fields: Added to every line.
        redactor: Veils secrets.
        has_source: Whether to say which line of code wrote it.
    """

    def __init__(
        self,
        *,
        colour: bool = False,
        fields: Mapping[str, Any] | None = None,
        redactor: Redactor | None = None,
        has_source: bool = False,
    ) -> None:
        super().__init__()
        self._colour = colour
        self._fields = dict(fields or {})
        self._redactor = redactor or Redactor()
        self._has_source = has_source

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record; what has several lines follows it."""
        event = read(record, self._redactor, self._fields, has_source=self._has_source)
        level = _SHORT.get(record.levelname, record.levelname.lower())
        clock = datetime.fromtimestamp(record.created).astimezone()
        parts = [
            self._paint(f"{clock:%H:%M:%S}.{record.msecs:03.0f}", "2"),
            self._paint(f"{level:5}", _COLOURS.get(record.levelname, "32")),
            self._paint(f"{record.name.removeprefix('kitmsg.'):9}", "2"),
            _shown(event.message),
        ]
        below = [printable(event.error, lines=True)]
        for key, value in event.extras.items():
            if key == _UNTOLD:
                continue
            if "\n" in str(value):
                below.append(printable(str(value), lines=True))
            else:
                parts.append(self._paint(f"{key}={printable(str(value))}", "36"))
        return "\n".join(filter(None, [" ".join(parts), *below]))

    def _paint(self, text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colour else text


def _shown(text: str) -> str:
    """Return a message that forges no line of its own, whatever a peer put into it."""
    return printable(text, lines=True).replace("\n", "\n    ")


def uses_colour(stream: TextIO) -> bool:
    """Tell whether to write colours to `stream`: a terminal, and no ``NO_COLOR``."""
    return (
        stream.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") != "dumb"
    )
