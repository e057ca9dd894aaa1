"""A thread that hands ended spans to exporters, in batches; bounded, flushed at drain.

Bounds and times are OpenTelemetry's, ``OTEL_BSP_SCHEDULE_DELAY``,
``OTEL_BSP_MAX_EXPORT_BATCH_SIZE`` and ``OTEL_BSP_MAX_QUEUE_SIZE``; batch and queue are
longer by default, because a worker ends 2048 spans in a tenth of a second.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from kitmsg.errors import InvalidArgument
from kitmsg.tracing.quiet import quietly

if TYPE_CHECKING:
    from kitmsg.tracing.turns import Ended

__all__ = ["Export", "Pipeline"]

_log = logging.getLogger("kitmsg.tracing")

Export = Callable[[Sequence[Any]], bool]
"""Sends spans, `Ended` or what a pipeline's `pack` makes of them; False if that failed."""

_BATCH: Final = 2048
_QUEUE: Final = 32_768
_DELAY_MS: Final = 5000


class Pipeline:
    """Ended spans on their way out.

    Args:
        exports: Where they go, each of them all.
        names: Theirs, for logs.
        environ: Bounds and times.
        pack: Makes of a span what waits in its place, and what all exports take.

    Attributes:
        dropped: Spans for which there was no room.

    Raises:
        InvalidArgument: A bound is no positive number.
    """

    def __init__(
        self,
        exports: Sequence[Export],
        environ: Mapping[str, str] = os.environ,
        *,
        names: Sequence[str] = (),
        pack: Callable[[Ended], Any] | None = None,
    ) -> None:
        self.dropped = 0
        self._pack = pack
        self._exports = tuple(exports)
        self._names = [*names, *[""] * (len(self._exports) - len(names))]
        self._batch = _number(environ, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", _BATCH)
        self._most = _number(environ, "OTEL_BSP_MAX_QUEUE_SIZE", _QUEUE)
        self._delay = _number(environ, "OTEL_BSP_SCHEDULE_DELAY", _DELAY_MS) / 1000
        # Appended by any thread, taken by the exporting one.
        self._queue: deque[Any] = deque()
        self._wake = threading.Event()
        # One at a time hands spans on: the thread, or who flushes.
        self._exporting = threading.Lock()
        self._is_closed = False
        self._is_told = False
        self._is_failing = [False] * len(self._exports)
        self._thread: threading.Thread | None = None

    def put(self, span: Ended) -> None:
        """Take a span that has ended; drops it where there is no room."""
        queue, pack = self._queue, self._pack
        queue.append(span if pack is None else pack(span))
        waiting = len(queue)
        if waiting == self._batch:  # the thread goes on until there are none
            self._wake.set()
        elif waiting > self._most:
            self._drop()
        if self._thread is None:
            self._start()

    def flush(self, timeout: float) -> bool:
        """Export all there is; False if `timeout` seconds were not enough."""
        if self._thread is None:
            return True
        end = monotonic() + timeout
        if not self._exporting.acquire(timeout=max(0.0, timeout)):
            return False
        try:
            while self._queue:
                if monotonic() > end:
                    return False
                self._export_batch()
        finally:
            self._exporting.release()
        return True

    def close(self, timeout: float = 5.0) -> None:
        """Flush, and end the thread."""
        self._is_closed = True
        self._wake.set()
        self.flush(timeout)

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="kitmsg-traces", daemon=True)
        self._thread = thread
        thread.start()

    def _drop(self) -> None:
        try:
            self._queue.popleft()
        except IndexError:
            return
        self.dropped += 1
        if not self._is_told:
            self._is_told = True
            _log.warning(
                "spans are dropped: %d wait to be exported, and more than that are not kept",
                self._most,
            )

    def _run(self) -> None:
        while not self._is_closed:
            self._wake.wait(self._delay)
            self._wake.clear()
            with self._exporting:
                while self._queue:
                    self._export_batch()

    def _export_batch(self) -> None:
        take, count = self._queue.popleft, min(self._batch, len(self._queue))
        batch = [take() for _ in range(count)]
        for number, export in enumerate(self._exports):
            self._hand_to(number, export, batch)

    def _hand_to(self, number: int, export: Export, batch: Sequence[Any]) -> None:
        """Export a batch; one line is logged when that begins to fail, and when it works."""
        try:
            with quietly() as said:
                why = "" if export(batch) else said.last or "it takes no spans"
        except Exception as exc:  # noqa: BLE001  an exporter may fail in any way
            why = str(exc) or type(exc).__name__
        if bool(why) == self._is_failing[number]:
            return
        self._is_failing[number] = bool(why)
        where = f" to {self._names[number]}" if self._names[number] else ""
        # In the template, not an argument: the lines of two exporters are not folded.
        if why:
            where = where.replace("%", "%%")
            _log.warning(f"traces cannot be exported{where}, and are lost: %s", why)
        else:
            _log.info(f"traces are exported{where} again")


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, "") or str(default)
    if not text.isdecimal() or not int(text):
        raise InvalidArgument(f"{name} must be a positive whole number, not {text!r}")
    return int(text)
