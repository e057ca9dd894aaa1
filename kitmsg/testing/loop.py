"""An event loop whose clock jumps: hours of timers in no time, in the order of a clock.

The idea is Trio's autojump clock.  When every task waits and only timers are left, the
clock is set to the next timer.  While something outside the loop is at work (a thread
of `run_in_executor`, a subprocess, an open socket) the loop waits as any loop would, in
real time.

Threads that the loop did not start do not stop the clock; when nothing else is left to
wait for they have half a second to call back.  Not for Windows' proactor loop.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from selectors import DefaultSelector, SelectorKey
from typing import Any, Final, TypeVar
from weakref import WeakSet

__all__ = ["VirtualTimeLoop"]

T = TypeVar("T")

_RESOLUTION_S: Final = 1e-6
_GRACE_S: Final = 0.5  # for threads we know nothing of, before we say deadlock


class _JumpingSelector(DefaultSelector):
    """Waits only when something outside is at work; else it skips the waiting.

    Attributes:
        elapsed: Seconds that were waited or skipped so far.
    """

    def __init__(
        self, is_outside_busy: Callable[[], bool], stuck: Callable[[], str]
    ) -> None:
        super().__init__()
        self.elapsed = 0.0
        self._is_outside_busy = is_outside_busy
        self._stuck = stuck

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Return ready files; with none, wait for the outside or skip `timeout`."""
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self._is_outside_busy():
            started = time.monotonic()
            ready = super().select(timeout)
            if ready:
                self.elapsed += time.monotonic() - started
                return ready
        elif timeout is None:
            ready = super().select(_GRACE_S if threading.active_count() > 1 else 0)
            if not ready:
                raise RuntimeError(self._stuck())
        self.elapsed += timeout or 0.0
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop where ``asyncio.sleep(3600)`` takes no time but `time` moves on.

    Use it as ``asyncio.Runner(loop_factory=VirtualTimeLoop)``.  Timers due at different
    times always run in that order.  When no task can ever go on, `run_until_complete`
    raises a `RuntimeError` that names the tasks and where they wait.
    """

    def __init__(self) -> None:
        self._threads = 0
        self._processes: WeakSet[asyncio.SubprocessTransport] = WeakSet()
        self._clock = _JumpingSelector(self._is_outside_busy, self._stuck)
        super().__init__(self._clock)
        # A timer that is due now runs now, also when a float of seconds since the start has
        # no nanoseconds any more, as after some hundred days.
        self._clock_resolution = _RESOLUTION_S
        self._own_files = len(self._clock.get_map())  # the pipe that wakes the loop

    def time(self) -> float:
        """Return the virtual time, in seconds since the loop was made."""
        return self._clock.elapsed

    def run_in_executor(  # type: ignore[override]  # typeshed wants TypeVarTuple
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Run `func` in a thread; the clock does not jump meanwhile."""
        future = super().run_in_executor(executor, func, *args)
        self._threads += 1
        future.add_done_callback(self._thread_done)
        return future

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        """Wait for the threads of the default executor; the clock does not jump."""
        self._threads += 1  # the base class joins them in a thread of its own
        try:
            await super().shutdown_default_executor(*args, **kwargs)
        finally:
            self._threads -= 1

    async def subprocess_exec(
        self, *args: Any, **kwargs: Any
    ) -> tuple[asyncio.SubprocessTransport, Any]:
        """Start a program; the clock does not jump meanwhile."""
        return self._watch(await super().subprocess_exec(*args, **kwargs))

    async def subprocess_shell(
        self, *args: Any, **kwargs: Any
    ) -> tuple[asyncio.SubprocessTransport, Any]:
        """Start a shell command; the clock does not jump meanwhile."""
        return self._watch(await super().subprocess_shell(*args, **kwargs))

    def _watch(
        self, started: tuple[asyncio.SubprocessTransport, Any]
    ) -> tuple[asyncio.SubprocessTransport, Any]:
        self._processes.add(started[0])
        return started

    def _thread_done(self, _future: asyncio.Future[Any]) -> None:
        self._threads -= 1

    def _is_outside_busy(self) -> bool:
        """Tell whether anything but a timer could still wake the loop."""
        return (
            self._threads > 0
            or len(self._clock.get_map()) > self._own_files
            or any(process.get_returncode() is None for process in self._processes)
        )

    def _stuck(self) -> str:
        """Return the sentence for a deadlock."""
        tasks = sorted(asyncio.all_tasks(self), key=asyncio.Task.get_name)
        waiting = "; ".join(map(_where, tasks)) or "no task is left"
        return (
            "deadlock: nothing is scheduled and no thread, process or socket is at "
            f"work, so these tasks wait for ever: {waiting}"
        )


def _where(task: asyncio.Task[Any]) -> str:
    """Return a task's name and the place where it waits."""
    frames = task.get_stack(limit=1)
    if not frames:
        return task.get_name()
    code = frames[0].f_code
    place = f"{code.co_filename}:{frames[0].f_lineno}"
    return f"{task.get_name()} in {code.co_qualname} ({place})"
