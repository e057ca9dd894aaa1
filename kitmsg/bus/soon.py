"""Callbacks at the end of the current read, and a wait that ends without a loop turn.

A loop's `call_soon` costs a handle and a turn of the loop.  Messages that came together
are worked on together, so there is a better moment than the next turn: the end of the
read that brought them.  `Soon` knows it, and `Bell` lets a task wait for it.

Hot path: both are used for every call, and are flat.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextvars import Context

__all__ = ["Bell", "Soon"]

_log = logging.getLogger("kitmsg.bus")

# Until Python 3.12 `current_task` is not of C, and costs as much as the rest of `feed`.
if sys.version_info >= (3, 12):
    _task_of = asyncio.current_task
else:
    _task_of = asyncio.tasks._current_tasks.get  # type: ignore[attr-defined]  # noqa: SLF001


class Soon:
    """Calls back at the end of the present read, or at the loop's next turn.

    Args:
        feed: Hands over what is in a chunk.

    Attributes:
        is_reading: Whether a chunk is being handed over: `call` waits for its end.
        reads: Chunks so far.
    """

    __slots__ = ("_due", "_feed", "_loop", "is_reading", "reads")

    def __init__(self, feed: Callable[[bytes], None]) -> None:
        self._feed = feed
        self._loop = asyncio.get_running_loop()
        # True from the first byte of a chunk to the last callback that it made due, and
        # only while no task runs: so a callback may step one.  Only `feed` sets it.
        self.is_reading = False
        # Callbacks in the order of `call`; they may append.  Empty whenever `is_reading`
        # is False, so none waits for a read that may not come.
        self._due: list[Callable[[], object]] = []
        self.reads = 0

    def feed_with(self, feed: Callable[[bytes], None]) -> None:
        """Hand chunks over with another function from now on; not during a read."""
        self._feed = feed

    def call(self, callback: Callable[[], object]) -> None:
        """Call `callback` once, soon; it steps no task while another one runs."""
        if self.is_reading:
            self._due.append(callback)
        else:
            self._loop.call_soon(callback)

    def next_turn(self, callback: Callable[[], object]) -> None:
        """Call `callback` at the loop's next turn."""
        self._loop.call_soon(callback)

    def later(
        self, seconds: float, callback: Callable[[], object]
    ) -> asyncio.TimerHandle:
        """Call `callback` in `seconds`, which uvloop rounds to milliseconds."""
        return self._loop.call_later(seconds, callback)

    def feed(self, chunk: bytes) -> None:
        """Hand over what is in `chunk`, then do what that made due.

        Raises whatever handing over raises.
        """
        self.reads += 1
        # Inside a task no other can be stepped: then it is left to the loop.
        if self.is_reading or _task_of(self._loop) is not None:
            self._feed(chunk)
            return
        self.is_reading = True
        try:
            self._feed(chunk)
        finally:
            if self._due:
                self._finish(self._due)
            self.is_reading = False

    def _finish(self, due: list[Callable[[], object]]) -> None:
        for callback in due:  # what these make due is appended, and comes last
            try:
                callback()
            except Exception:  # noqa: BLE001  the others come all the same
                _log.exception("what a message led to failed")
            except BaseException as error:  # noqa: BLE001  the end of the process
                self._loop.call_soon(_throw, error)
        due.clear()


def _throw(error: BaseException) -> None:
    raise error


# Source of what a task asks of the thing it waits for: asyncio's `Task.__step`, "Yielded
# Future must come from Future.__iter__()"; anything with these five names will do.


class Bell(msgspec.Struct, eq=False):
    """Something that one task waits for; `ring` steps that task, there and then.

    As a future, but the task goes on within `ring`, not a turn of the loop later.  So
    `ring` must not be called while a task runs: leave it to `Soon.call`.  A bell is good
    for one wait.

    Args:
        loop: That of the task.
    """

    loop: asyncio.AbstractEventLoop
    # Set by `__await__`, cleared by the task that takes the bell for a future to wait for.
    _asyncio_future_blocking: bool = False
    # Set once, by `cancel`, when a ring is already due: then `result` raises.
    _is_cancelled: bool = False
    # The task's step, from the moment it waits to the first `ring`; None before and after,
    # so a second ring finds nobody.  `_context` is set with it, before it, and stays.
    _wake: Callable[[Any], object] | None = None
    _context: Context | None = None

    def __await__(self) -> Generator[Any, None, None]:
        """Wait until it rings."""
        self._asyncio_future_blocking = True
        yield self

    @property
    def is_awaited(self) -> bool:
        """Whether a task waits, which nobody has cancelled."""
        return self._wake is not None and not self._is_cancelled

    def ring(self) -> None:
        """Wake the task that waits; nothing happens if there is none."""
        wake, self._wake = self._wake, None
        if wake is not None:
            self._context.run(wake, self)  # type: ignore[union-attr]  # set with `_wake`

    # -- what `Task` calls

    get_loop = staticmethod(asyncio.get_running_loop)

    def add_done_callback(
        self, wake: Callable[[Any], object], *, context: Context
    ) -> None:
        """Note who waits."""
        self._wake = wake
        self._context = context

    def cancel(self, msg: Any = None) -> bool:
        """End the wait with `CancelledError`, next turn; False if nobody waits."""
        if not self.is_awaited:
            return False
        self._is_cancelled = True
        self.loop.call_soon(self.ring)  # which may not be running: it may end
        return True

    def result(self) -> None:
        """Raise `CancelledError` if the wait was cancelled."""
        if self._is_cancelled:
            raise asyncio.CancelledError
