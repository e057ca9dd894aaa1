"""Lines for machines: JSON objects, and logfmt.

logfmt as Go's go-logfmt writes and reads it, whose rules Go kit's logger has: keys without
white space, ``=`` and quotes; values are quoted where they have any of these, with JSON's
escapes; no value at all is ``null``.
"""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING, Any, Final

from kitmsg.logs.event import read, stamp
from kitmsg.logs.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["JsonFormatter", "LogfmtFormatter"]

_encode: Final = json.JSONEncoder(default=str, ensure_ascii=False).encode
_BARE: Final = re.compile(r'[^\s"=\x00-\x20\x7f-\xa0\ufffd\u2028\u2029\ud800-\udfff]+')
_NO_KEY: Final = re.compile(r'[\s"=\x00-\x20\x7f-\xa0\ufffd\u2028\u2029\ud800-\udfff]+')
_LONE: Final = re.compile(r"[\ud800-\udfff]")
_CONTROLS: Final = re.compile(r"[\x7f-\x9f\u2028\u2029]")


class _MachineFormatter(logging.Formatter):
    """Puts the fields of a line in their order; a subclass writes them."""

    def __init__(
        self,
        fields: Mapping[str, Any] | None = None,
        *,
        redactor: Redactor | None = None,
        has_source: bool = False,
    ) -> None:
        super().__init__()
        self._fields = dict(fields or {})
        self._redactor = redactor or Redactor()
        self._has_source = has_source

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        given = {**self._fields, "pid": record.process}
        event = read(record, self._redactor, given, has_source=self._has_source)
        line = {
            "ts": stamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": event.message,
            **event.extras,
        }
        if event.error:
            line["error"] = event.error
        return self._written(line)

    def _written(self, line: dict[str, Any]) -> str:
        raise NotImplementedError


class JsonFormatter(_MachineFormatter):
    """One JSON object per line: ts, level, logger, msg, then the fields.

    ``ts`` is RFC 3339 in UTC with milliseconds; a traceback is text in ``error``.

    Args:
        fields: Added to every line, such as the worker's number.
        redactor: Veils secrets.
        has_source: Whether ``source`` says which line of code wrote it.
    """

    def _written(self, line: dict[str, Any]) -> str:
        return _encode(line)


class LogfmtFormatter(_MachineFormatter):
    """One line of ``key=value`` pairs; fields and arguments as `JsonFormatter` has them."""

    def _written(self, line: dict[str, Any]) -> str:
        return " ".join(f"{_key(key)}={_value(value)}" for key, value in line.items())


def _key(key: str) -> str:
    return _NO_KEY.sub("_", key) or "_"


def _value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        value = str(value) if isinstance(value, (int, float)) else json.dumps(value)
    if _BARE.fullmatch(value) or not value:
        return value if value != "null" else '"null"'
    quoted = json.dumps(_LONE.sub("\ufffd", value), ensure_ascii=False)
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)
