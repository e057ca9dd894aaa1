"""A record as the formats write it: its fields, safe to show, without secrets.

A line is never lost for what is in it: a value whose ``str`` raises, arguments that do not
fit the message, a structure that contains itself.
"""

from __future__ import annotations

import dataclasses
import logging
import traceback
from collections.abc import Mapping, Set
from datetime import UTC, date, datetime, time
from enum import Enum
from math import isfinite
from typing import Any, Final

from kitmsg.logs.redact import Redactor
from kitmsg.logs.turn import NAMES, TURN, turn_of

__all__ = ["Event", "plain", "read", "stamp"]

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    *("message", "asctime", "taskName"),
}
_DEEPEST: Final = 6
_WIDEST: Final = 256


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line, before it has a format.

    Attributes:
        message: The rendered message.
        extras: The fields of the line, then those of the turn.
        error: Traceback of the exception, and the stack; "" for none.
    """

    message: str
    extras: dict[str, Any]
    error: str


def read(
    record: logging.LogRecord,
    redactor: Redactor,
    fields: Mapping[str, Any],
    *,
    has_source: bool = False,
) -> Event:
    """Return what a record says.

    Args:
        record: The record.
        redactor: Veils secrets.
        fields: Of every line.
        has_source: Whether ``source``, the file and the line, is a field.
    """
    given = {
        key: value
        for key, value in vars(record).items()
        if key not in _STANDARD and not key.startswith("_")
    }
    if hasattr(record, TURN):  # a `TurnFilter` has put them there, "" for none
        given = {k: v for k, v in given.items() if v != "" or k not in NAMES}
    if has_source:
        given["source"] = f"{record.filename}:{record.lineno}"
    extras = {**fields}
    for key, value in given.items():
        extras[key] = redactor.value(key, plain(value))
    for key, fact in turn_of(record).items():
        if not extras.get(key):
            extras[key] = fact
    error = _error(record)
    return Event(
        message=redactor.text(_message(record)),
        extras=extras,
        error=redactor.text(error) if error else "",
    )


def plain(value: Any, depth: int = 0) -> Any:
    """Return a value of JSON's types; objects as the text that they give of themselves.

    What is nested too deep, or has too many parts, is text or cut.
    """
    if isinstance(value, Enum):
        value = value.value
    if value is None or type(value) in (str, int, bool):
        return value
    if isinstance(value, float) and isfinite(value):
        return value
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    return _text(value) if depth >= _DEEPEST else _parts(value, depth + 1)


def _parts(value: Any, depth: int) -> Any:
    try:
        if isinstance(value, Mapping):
            pairs = list(value.items())[:_WIDEST]
            return {_text(key): plain(each, depth) for key, each in pairs}
        if isinstance(value, (list, tuple, Set)):
            return [plain(each, depth) for each in list(value)[:_WIDEST]]
    except Exception:  # noqa: BLE001  # a container of somebody's own
        return _text(value)
    return _text(value)


def stamp(record: logging.LogRecord) -> str:
    """Return the time of a record: RFC 3339 in UTC, with milliseconds."""
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as exc:  # noqa: BLE001  # arguments that do not fit, or cannot be shown
        args = record.args if isinstance(record.args, tuple) else (record.args,)
        shown = ", ".join(map(_text, args))
        return f"{record.msg} [{shown}] (not formatted: {type(exc).__name__})"


def _error(record: logging.LogRecord) -> str:
    parts = []
    if record.exc_info and record.exc_info[1] is not None:
        parts.append(_traceback(record.exc_info[1]))
    elif record.exc_text:
        parts.append(record.exc_text)
    if record.stack_info:
        parts.append(record.stack_info)
    return "\n".join(parts)


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error)).rstrip()
    except Exception as exc:  # noqa: BLE001  # an exception that cannot be shown
        return f"{type(error).__name__} (not shown: {type(exc).__name__})"


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception as exc:  # noqa: BLE001  # the line goes on without it
        return f"<{type(value).__name__}: {type(exc).__name__} in str()>"
