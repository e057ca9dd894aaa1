"""Repeated warnings and errors are one line with a count.

The first of its kind is written at once.  Those that follow within the window are counted,
and the end of the window, or of the process, writes one line with ``repeated`` and the ids
of the requests that they were about.  A kind is a logger, a level, an endpoint, a message
template and an error: its type, its text and where it was raised; so a different error never
hides behind another.  Lines below warning, and those of calls, are never folded.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TextIO

from kitmsg.logs.turn import TURN, turn_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["CALL", "FoldingHandler"]

CALL: Final = "_call"
"""Attribute of a record that is the line of one call, which is never folded."""

_MOST_KINDS: Final = 512
_MOST_IDS: Final = 100
_CALLS: Final = "kitmsg.calls"


@dataclass(slots=True)
class _Kind:
    """Lines of one kind within a window."""

    ends: float
    last: logging.LogRecord | None = None  # of those that were not written
    count: int = 0
    ids: list[str] = field(default_factory=list)


class FoldingHandler(logging.StreamHandler[TextIO]):
    """Writes lines to a stream, and repeated ones once in each window.

    Args:
        stream: Where to.
        window: In seconds; 0 to fold nothing.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        stream: TextIO,
        window: float = 0.0,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(stream)
        self._window = window
        self._clock = clock
        # Both under the handler's lock, which `handle` holds around `emit`.  All windows
        # are equally long, so the kinds stand in the order of their ends.
        self._kinds: dict[Hashable, _Kind] = {}
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or count it."""
        if not self._window or not _may_fold(record):
            super().emit(record)
            return
        now = self._clock()
        self._end(now)
        setattr(record, TURN, turn_of(record))  # it may be written outside its turn
        key = _key(record)
        kind = self._kinds.get(key)
        if kind is None:
            if len(self._kinds) < _MOST_KINDS:
                self._kinds[key] = _Kind(now + self._window)
            super().emit(record)
            return
        self._count(kind, record)

    def close(self) -> None:
        """Write what is counted, then close."""
        with self._locked():
            self._end(float("inf"))
            if self._timer is not None:
                self._timer.cancel()
        super().close()

    def _count(self, kind: _Kind, record: logging.LogRecord) -> None:
        kind.last = record
        kind.count += 1
        id_ = _fact(record, "request_id")
        if id_ and len(kind.ids) < _MOST_IDS:
            kind.ids.append(id_)
        if self._timer is None:
            self._timer = threading.Timer(self._window, self._due)
            self._timer.daemon = True
            self._timer.start()

    def _due(self) -> None:
        """End the windows that are over, in the timer's thread."""
        with self._locked():
            self._timer = None
            self._end(self._clock())
            if any(kind.count for kind in self._kinds.values()):
                self._timer = threading.Timer(self._window, self._due)
                self._timer.daemon = True
                self._timer.start()

    def _end(self, now: float) -> None:
        """Write the count of each window that is over."""
        while self._kinds:
            key = next(iter(self._kinds))
            if self._kinds[key].ends > now:
                return
            kind = self._kinds.pop(key)
            if kind.last is not None:
                super().emit(_summary(kind.last, kind))

    def _locked(self) -> Any:
        return self.lock  # made by `logging.Handler`, and reentrant


def _may_fold(record: logging.LogRecord) -> bool:
    return (
        record.levelno >= logging.WARNING
        and record.name != _CALLS
        and not hasattr(record, CALL)
    )


def _summary(last: logging.LogRecord, kind: _Kind) -> logging.LogRecord:
    """Return the line that stands for the lines of a kind which were not written."""
    record = logging.makeLogRecord({**vars(last), "repeated": kind.count})
    record.exc_info = record.exc_text = record.stack_info = None
    facts = dict(getattr(last, TURN))
    if kind.count > 1:
        for name in ("request_id", "trace_id", "span_id"):
            facts.pop(name, None)
        record.__dict__.pop("request_id", None)
        record.__dict__["request_ids"] = kind.ids
    setattr(record, TURN, facts)
    return record


def _key(record: logging.LogRecord) -> Hashable:
    template = str(record.msg)
    args = record.args if isinstance(record.args, tuple) else ()
    if not any(map(str.isalpha, template.replace("%s", "").replace("%r", ""))):
        template = _safe(record.getMessage)  # "%s" alone says nothing
    errors = [arg for arg in args if isinstance(arg, BaseException)]
    if record.exc_info and record.exc_info[1] is not None:
        errors.append(record.exc_info[1])
    named = [_identity(error) for error in errors]
    endpoint = _fact(record, "endpoint")
    return record.name, record.levelno, endpoint, template, tuple(named)


def _fact(record: logging.LogRecord, name: str) -> str:
    """Return a fact that a record says itself, or its turn; "" for none."""
    facts: dict[str, str] = getattr(record, TURN)
    return str(getattr(record, name, "") or facts.get(name, ""))


def _identity(error: BaseException) -> Hashable:
    """Return what tells an error from others: type, text, and where it was raised."""
    place: Hashable = None
    trace = error.__traceback__
    while trace is not None:
        place = (trace.tb_frame.f_code.co_filename, trace.tb_lineno)
        trace = trace.tb_next
    return type(error), _safe(lambda: str(error)), place


def _safe(show: Callable[[], str]) -> str:
    try:
        return show()
    except Exception as exc:  # noqa: BLE001  # an error that cannot be shown is told apart
        return type(exc).__name__
