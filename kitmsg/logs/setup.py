"""Sends every log line of a process to one place, in one format."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, Final

from kitmsg.logs.console import ConsoleFormatter, uses_colour
from kitmsg.logs.fold import FoldingHandler
from kitmsg.logs.machine import JsonFormatter, LogfmtFormatter
from kitmsg.logs.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

__all__ = ["FORMATS", "set_up"]

FORMATS: Final = ("console", "json", "logfmt")
"""Formats of lines, by name."""

_log = logging.getLogger("kitmsg")


def set_up(
    *,
    log_format: str = "console",
    level: str = "info",
    fields: Mapping[str, Any] | None = None,
    fold: float = 0.0,
    secrets: Iterable[str] = (),
    has_source: bool = False,
) -> None:
    """Send every log line of this process to stderr, and nowhere else.

    Args:
        log_format: One of `FORMATS`.
        level: The least that is written, such as ``info``.
        fields: Added to every line.
        fold: Seconds in which repeated warnings and errors are one line; 0 for none.
        secrets: More names of fields whose values are veiled.
        has_source: Whether each line says which line of code wrote it.
    """
    handler = FoldingHandler(sys.stderr, fold)
    handler.setFormatter(_formatter(log_format, fields, Redactor(secrets), has_source))
    root = logging.getLogger()
    for old in root.handlers:
        if isinstance(old, FoldingHandler):
            old.close()  # what it counted is written
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    # Libraries' chatter: a reconnect is told by our own bus in one line.
    for noisy in ("asyncio", "nats", "watchfiles"):
        logging.getLogger(noisy).setLevel(max(root.level, logging.WARNING))


def _formatter(
    log_format: str,
    fields: Mapping[str, Any] | None,
    redactor: Redactor,
    has_source: bool,
) -> logging.Formatter:
    if log_format == "console":
        return ConsoleFormatter(
            colour=uses_colour(sys.stderr),
            fields=fields,
            redactor=redactor,
            has_source=has_source,
        )
    make = LogfmtFormatter if log_format == "logfmt" else JsonFormatter
    return make(fields, redactor=redactor, has_source=has_source)


def _uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Write what ends the process as a line like any other."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    _log.critical("%s", kind.__name__, exc_info=(kind, error, trace))
