"""Log lines: one event, one line, with its fields; for people or for machines.

Both read the standard library's records, so every library's lines come out alike.  A line
written inside a turn carries the turn's endpoint and request id.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TextIO

from kitmsg.context import current
from kitmsg.message import printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

__all__ = ["ConsoleFormatter", "JsonFormatter", "set_up", "uses_colour"]

_log = logging.getLogger("kitmsg")
_PLAIN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_COLOURS: Final = {"WARNING": "33", "ERROR": "31", "CRITICAL": "1;31", "DEBUG": "2"}
_SHORT: Final = {"WARNING": "warn", "CRITICAL": "fatal"}


class JsonFormatter(logging.Formatter):
    """One JSON object per line: ts, level, logger, msg, then the extras.

    ``ts`` is RFC 3339 in UTC with milliseconds; a traceback is text in ``error``.

    Args:
        fields: Added to every line, such as the worker's number.
    """

    def __init__(self, fields: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self._fields = dict(fields or {})

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        event = {
            "ts": _stamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
            **self._fields,
            "pid": record.process,
            **_extras(record),
        }
        trace = _trace(record)
        if trace:
            event["error"] = trace
        return json.dumps(event, default=str, ensure_ascii=False)


class ConsoleFormatter(logging.Formatter):
    """Time, level, logger, message and extras, for people.

    Args:
        colour: Whether to use colours.
        fields: Added to every line.
    """

    def __init__(
        self, *, colour: bool = False, fields: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        self._colour = colour
        self._fields = dict(fields or {})

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record; what has several lines follows it."""
        level = _SHORT.get(record.levelname, record.levelname.lower())
        extras = {**self._fields, **_extras(record)}
        clock = datetime.fromtimestamp(record.created).astimezone()
        parts = [
            self._paint(f"{clock:%H:%M:%S}.{record.msecs:03.0f}", "2"),
            self._paint(f"{level:5}", _COLOURS.get(record.levelname, "32")),
            self._paint(f"{record.name.removeprefix('kitmsg.'):9}", "2"),
            _shown(record.getMessage()),
        ]
        below = [printable(_trace(record), lines=True)]
        for key, value in extras.items():
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


def set_up(
    *,
    log_format: str = "console",
    level: str = "info",
    fields: Mapping[str, Any] | None = None,
) -> None:
    """Send every log line of this process to stderr, and nowhere else.

    Args:
        log_format: ``console`` or ``json``.
        level: The least that is written, such as ``info``.
        fields: Added to every line.
    """
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "json":
        handler.setFormatter(JsonFormatter(fields))
    else:
        colour = uses_colour(sys.stderr)
        handler.setFormatter(ConsoleFormatter(colour=colour, fields=fields))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    # Libraries' chatter: a reconnect is told by our own bus in one line.
    for noisy in ("asyncio", "nats", "watchfiles"):
        logging.getLogger(noisy).setLevel(max(root.level, logging.WARNING))


def _uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Write what ends the process as a line like any other."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    _log.critical("%s", kind.__name__, exc_info=(kind, error, trace))


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    """Return what the record has beyond the standard, and the turn it was written in."""
    extras = {key: val for key, val in vars(record).items() if key not in _PLAIN}
    ctx = current()
    if ctx.message is not None:
        extras.setdefault("endpoint", ctx.endpoint)
        extras.setdefault("request_id", ctx.request_id)
    return extras


def _stamp(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _trace(record: logging.LogRecord) -> str:
    if record.exc_info and record.exc_info[1] is not None:
        return "".join(traceback.format_exception(record.exc_info[1])).rstrip()
    return record.exc_text or ""
