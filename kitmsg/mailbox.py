"""A bounded queue in front of a service instance, and the workers that empty it.

Hot path.  There is no task and no timer per message: workers are long-lived tasks, and one
that does not suspend empties the queue without a turn of the event loop.  An idle one
starts at the end of the read that brought the turn, if the bus knows when that is.

States of a turn: waiting in the queue -> running on a worker -> done.  `cancel` ends it in
the first two; `offer` refuses it when there is no room.  Nothing else loses a turn.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from kitmsg.bus.soon import Bell
from kitmsg.errors import Code

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Mailbox", "Turn"]

_log = logging.getLogger("kitmsg.mailbox")

_TICK: Final = 0.05
_STOP_SECONDS: Final = 1.0  # for turns to take their cancellation
_MAX_STRAIGHT: Final = 1024  # turns without letting the loop breathe


class Turn(Protocol):
    """One message's way through the mailbox."""

    deadline: float | None
    """Absolute time on the event loop's clock after which the turn is ended."""

    def run(self) -> Awaitable[None]:
        """Do the work and answer; a `CancelledError` out of it is the turn's end."""
        ...

    def ended(self, code: Code) -> None:
        """Answer a turn that was cut short, before or while it ran.

        Args:
            code: `DEADLINE_EXCEEDED` when its time is up, `CANCELLED` when the caller gave
                up, `UNAVAILABLE` when the mailbox stops.
        """
        ...


class _Worker:
    """A long-lived task and the turn it runs, if any."""

    __slots__ = ("cut", "task", "turn")

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.turn: Turn | None = None
        self.cut: Code | None = None  # why the running turn was cancelled


class Mailbox:
    """Runs at most `concurrency` turns at once and lets at most `size` wait.

    Args:
        concurrency: Turns at once; at least 1.
        size: Turns that may wait beside those that run; at least 0.
        on_full: Called when the queue passes its high-water mark (3/4 of `size`).
        on_room: Called when it is back under the low-water mark (1/4 of `size`).
        soon: Calls back when no task runs; by default at the loop's next turn.

    Raises:
        ValueError: `concurrency` or `size` is too small.
    """

    def __init__(
        self,
        *,
        concurrency: int = 64,
        size: int = 4096,
        on_full: Callable[[], None] | None = None,
        on_room: Callable[[], None] | None = None,
        soon: Callable[[Callable[[], object]], object] | None = None,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, not {concurrency}")
        if size < 0:
            raise ValueError(f"mailbox must be at least 0, not {size}")
        self.concurrency = concurrency
        self.size = size
        self._capacity = concurrency + size
        self._high = concurrency + max(1, size * 3 // 4)
        self._low = concurrency + size // 4
        self._on_full = on_full
        self._on_room = on_room
        self._soon = soon or _next_turn
        self._is_over = False
        self._queue: deque[Turn] = deque()
        self._idle: list[Bell] = []
        self._workers: list[_Worker] = []
        self._running = 0
        self._ticker: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._is_waking = False  # a worker was called and has not come yet
        self._is_stopping = False

    @property
    def waiting(self) -> int:
        """Turns in the queue."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Turns on workers."""
        return self._running

    def turns(self) -> tuple[list[Turn], list[Turn]]:
        """Return the turns that run, and those that wait."""
        running = [worker.turn for worker in self._workers if worker.turn is not None]
        return running, list(self._queue)

    def offer(self, turn: Turn) -> bool:
        """Take `turn` if there is room; False, with nothing kept, if there is none.

        After `stop` it is taken and ended at once.
        """
        if self._is_stopping:
            turn.ended(Code.UNAVAILABLE)
            return True
        held = len(self._queue) + self._running
        if held >= self._capacity:
            return False
        self._queue.append(turn)
        if not self._is_waking:
            self._next_worker()
        if held >= self._high and not self._is_over:
            self._is_over = True
            if self._on_full is not None:
                self._on_full()
        return True

    def cancel(self, turn: Turn) -> None:
        """End `turn`, waiting or running; nothing happens if it is over."""
        for worker in self._workers:
            if worker.turn is turn:
                self._cut(worker, Code.CANCELLED)
                return
        try:
            self._queue.remove(turn)
        except ValueError:
            return
        turn.ended(Code.CANCELLED)
        self._settle()

    async def turned_over(self) -> None:
        """Wait until every turn that runs now is over."""
        turns = [worker.turn for worker in self._workers if worker.turn is not None]
        while any(w.turn is t for t in turns for w in self._workers):  # noqa: ASYNC110
            await asyncio.sleep(
                _TICK
            )  # rare; an event would cost something on each turn

    async def drain(self, timeout: float) -> None:
        """Wait until all turns are over, at most `timeout` seconds, and stop.

        What is left then, waiting or running, ends with `UNAVAILABLE`; see `stop`.
        """
        if self._held():
            try:
                await asyncio.wait_for(self._emptied(), timeout)
            except TimeoutError:
                _log.warning("drain: %d turns left after %.1f s", self._held(), timeout)
        await self.stop()

    async def stop(self) -> None:
        """End what waits and what runs with `UNAVAILABLE`, and the workers.

        A turn that swallows its cancellation is answered after 1 s, and left to itself.
        """
        self._is_stopping = True
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
        tasks = [worker.task for worker in self._workers if worker.task is not None]
        for task in tasks:
            task.cancel()
        while self._queue:
            self._queue.popleft().ended(Code.UNAVAILABLE)
        if tasks:
            await asyncio.wait(tasks, timeout=_STOP_SECONDS)
        for worker in self._workers:
            turn, worker.turn = worker.turn, None
            if turn is not None:
                turn.ended(Code.UNAVAILABLE)
                _log.error("a turn swallows CancelledError and goes on: %r", turn)
        self._workers.clear()
        self._idle.clear()

    def _held(self) -> int:
        return len(self._queue) + self._running

    async def _emptied(self) -> None:
        while self._queue or self._running:
            self._empty.clear()
            await self._empty.wait()

    def _next_worker(self) -> None:
        """Call one worker.  It calls the next, if it finds more than one turn waiting.

        So a worker that does not suspend finds itself alone with the queue, and one that
        does has help before it suspends.
        """
        if self._idle:
            self._is_waking = True
            self._soon(self._idle.pop().ring)
        elif len(self._workers) < self.concurrency:
            self._is_waking = True
            worker = _Worker()
            self._workers.append(worker)
            worker.task = asyncio.get_running_loop().create_task(self._work(worker))
            worker.task.add_done_callback(lambda task: self._lost(worker, task))

    # One flat loop, because all of it runs for every message.
    async def _work(self, worker: _Worker) -> None:  # noqa: PLR0912, PLR0915
        loop = asyncio.get_running_loop()
        queue = self._queue
        while True:
            self._is_waking = False
            straight = 0
            while queue:
                turn = queue.popleft()
                if queue and not self._is_waking:
                    self._next_worker()
                if self._ticker is None:
                    self._ticker = loop.call_later(_TICK, self._tick, loop)
                self._running += 1
                worker.turn = turn
                try:
                    await turn.run()
                except asyncio.CancelledError:
                    self._cut_short(worker, turn)
                except Exception:  # noqa: BLE001  a worker outlives its turns
                    _log.exception("a turn failed outside its handler")
                finally:
                    worker.turn = None
                    self._running -= 1
                if self._is_stopping:  # the turn took its cancellation for itself
                    return
                if worker.cut is not None:
                    self._forget_cut(worker)
                if self._is_over:
                    self._settle()
                straight += 1
                if straight >= _MAX_STRAIGHT:
                    straight = 0
                    await asyncio.sleep(0)
            self._settle()
            if _is_cancelled(worker):
                return
            idle = Bell(loop)
            self._idle.append(idle)
            await idle

    def _lost(self, worker: _Worker, task: asyncio.Task[None]) -> None:
        """Make room for another worker: a turn took this one with it."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.error("a turn ended its worker", exc_info=error)
        if self._is_stopping or worker not in self._workers:
            return
        self._workers.remove(worker)
        self._idle = [idle for idle in self._idle if idle.is_awaited]
        self._is_waking = False
        self._settle()
        if self._queue:
            self._next_worker()

    def _settle(self) -> None:
        """Tell those who wait for room, or for emptiness."""
        held = self._held()
        if self._is_over and held <= self._low:
            self._is_over = False
            if self._on_room is not None:
                self._on_room()
        if not held:
            self._empty.set()

    def _cut_short(self, worker: _Worker, turn: Turn) -> None:
        """End a turn that a `CancelledError` came out of.

        It is ours, the turn's own, or meant for the worker: from `stop`, or from a loop
        that ends.
        """
        if self._is_stopping or _is_cancelled(worker):
            if worker.turn is turn:  # else `stop` did not wait any longer
                turn.ended(Code.UNAVAILABLE)
            raise asyncio.CancelledError
        turn.ended(worker.cut or Code.CANCELLED)

    @staticmethod
    def _forget_cut(worker: _Worker) -> None:
        worker.cut = None
        if worker.task is not None:
            worker.task.uncancel()

    @staticmethod
    def _cut(worker: _Worker, why: Code) -> None:
        if worker.cut is None and worker.task is not None:
            worker.cut = why
            worker.task.cancel()

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        """End the running turns whose time is up; one timer for all of them."""
        self._ticker = None
        if not self._running:
            return
        self._ticker = loop.call_later(_TICK, self._tick, loop)
        now = loop.time()
        for worker in self._workers:
            turn = worker.turn
            if turn is not None and turn.deadline is not None and turn.deadline <= now:
                self._cut(worker, Code.DEADLINE_EXCEEDED)


def _next_turn(callback: Callable[[], object]) -> None:
    asyncio.get_running_loop().call_soon(callback)


def _is_cancelled(worker: _Worker) -> bool:
    """Tell whether somebody but us cancelled the worker's task."""
    ours = worker.cut is not None
    return worker.task is not None and worker.task.cancelling() > ours
