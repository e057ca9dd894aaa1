"""A bounded queue in front of a service instance, and the workers that empty it.

Hot path.  There is no task and no timer per message: workers are long-lived tasks, and one
that does not suspend empties the queue without a turn of the event loop.  An idle one
starts at the end of the read that brought the turn, if the bus knows when that is.

States of a turn: waiting in the queue -> running on a worker -> done.  `cancel` ends it in
the first two; `offer` refuses it when there is no room, an overload or a mailbox that gets
stuck while it waits.  Nothing else loses a turn.  A turn
that is over keeps its place as long as a thread of it runs: see `kitmsg.threads`.

With `sheds`, while more comes than the process can do, only so many turns may wait as are
done in 50 ms at the best rate of late; see `kitmsg.pace`.  When that begins the newest are
refused, down to a quarter of a second of work.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING, Final, Protocol

from kitmsg.bus.soon import Bell
from kitmsg.errors import Code
from kitmsg.pace import Pace
from kitmsg.threads import enter_place

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from concurrent.futures import Executor
    from typing import Any

__all__ = ["Mailbox", "Turn"]

_log = logging.getLogger("kitmsg.mailbox")

_TICK: Final = 0.05
_STOP_SECONDS: Final = 1.0  # for turns to take their cancellation
# Longest run of turns without letting the loop breathe: replies are written, and requests
# read, between two runs.  While nobody reads, the line of requests grows in the socket and
# in the server, where nothing can shorten it.
_RUN_SECONDS: Final = 0.005


class Turn(Protocol):
    """One message's way through the mailbox."""

    deadline: float | None
    """Absolute time on the event loop's clock after which the turn is ended."""

    @property
    def reply(self) -> str:
        """Subject of its answer, by which a caller ends it; "" for no answer."""
        ...

    def run(self) -> Awaitable[None]:
        """Do the work and answer; a `CancelledError` out of it is the turn's end."""
        ...

    def ended(self, code: Code) -> None:
        """Answer a turn that was cut short, before or while it ran.

        Args:
            code: `DEADLINE_EXCEEDED` when its time is up, `CANCELLED` when the caller gave
                up, `UNAVAILABLE` when the mailbox stops, `RESOURCE_EXHAUSTED` when it
                waited and the mailbox got stuck or overloaded, `INTERNAL` when it raised
                `CancelledError` and nobody had cancelled it.
        """
        ...


class _Worker:
    """A long-lived task and the turn it runs, if any; a `kitmsg.threads.Place`."""

    __slots__ = ("cut", "executor", "is_held", "task", "threads", "turn")

    def __init__(self, executor: Executor | None) -> None:
        self.executor = executor
        # None only until `_next_worker` has made it.
        self.task: asyncio.Task[None] | None = None
        # Set by the task alone, around `turn.run()` and while `is_held`; None when idle.
        self.turn: Turn | None = None
        # Why the running turn was cancelled: set with `task.cancel()`, at most once for a
        # turn, and taken back with `task.uncancel()` before the next one.
        self.cut: Code | None = None
        # Threads that outlived their call.  Not empty: the next turn has to wait.
        self.threads: list[asyncio.Future[Any]] = []
        # `turn` was answered and waits for `threads`: it must not be cut or answered.
        self.is_held = False

    def hold(self, thread: asyncio.Future[Any]) -> None:
        self.threads.append(thread)


class Mailbox:
    """Runs at most `concurrency` turns at once and lets at most `size` wait.

    Args:
        concurrency: Turns at once; at least 1.
        size: Turns that may wait beside those that run; at least 0.
        on_full: Called when the queue passes its high-water mark (3/4 of `size`), or the
            mailbox gets stuck.
        on_room: Called when it is back under the low-water mark (1/4 of `size`), and no
            longer stuck.
        on_stuck: Called before that when the mailbox gets stuck; see `is_stuck`.
        soon: Calls back when no task runs; by default at the loop's next turn.
        executor: Runs the threads of turns; by default the loop's own.
        threads: How many it has; by default `concurrency`.
        sheds: Whether it is shorter while more comes than the process can do.

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
        on_stuck: Callable[[], None] = lambda: None,
        soon: Callable[[Callable[[], object]], object] | None = None,
        executor: Executor | None = None,
        threads: int | None = None,
        sheds: bool = False,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, not {concurrency}")
        if size < 0:
            raise ValueError(f"mailbox must be at least 0, not {size}")
        self.concurrency = concurrency
        self.size = size
        # Set once, never back: turns are refused from here on.
        self._is_stopping = False
        # Turns that are taken: concurrency + size, and 0 while stuck.
        self._capacity = self._room = self._high = self._low = 0
        # From so many on `offer` looks closer: 0 while stuck or stopping.
        self._mark = 0
        self._on_full, self._on_room, self._on_stuck = on_full, on_room, on_stuck
        self._soon = soon or _next_turn
        self._executor = executor
        self._threads = concurrency if threads is None else threads
        # `on_full` was called last, not `on_room`: the two alternate.
        self._is_over = False
        # Turns that no worker has: `offer` appends, workers take from the left, `cancel`
        # removes.  Whoever makes it longer than the waking worker can know wakes the next.
        self._queue: deque[Turn] = deque()
        # Workers that wait, the last one to fall idle at the end.  A bell is taken out
        # before it is rung, so none is rung twice.
        self._idle: list[Bell] = []
        # At most `concurrency`.  They never end by themselves: `_lost` takes out one that a
        # turn killed, `stop` all.
        self._workers: list[_Worker] = []
        # Workers that are awake.  Each has a turn, those that are held included, but for the
        # moments between two turns, when nobody looks.
        self._running = 0
        # Workers that are held: as many as have `is_held`.
        self._held = 0
        # All threads run for calls that are over; implies `_is_over`.
        self._is_stuck = False
        self._bound(concurrency, size)
        self._sheds = sheds
        # Turns that were done, and how often some were refused, or sent to others by
        # `on_full`: `_pace` judges by them.
        self._done = self._turned_away = 0
        self._pace = Pace(_TICK, concurrency)
        # None when no turn runs: an idle mailbox has no timer.
        self._ticker: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        # Somebody waits for `_empty`, which nobody sets otherwise.
        self._is_draining = False
        # A worker was called and has not come yet.  It calls the next one itself, so while
        # this holds `offer` calls nobody.
        self._is_waking = False
        # The worker that ran last, if any.
        self._runner: _Worker | None = None
        # A worker lets the loop turn and then goes on with the queue: no other takes from
        # it, or as many runs as there are workers would follow one another.
        self._is_breathing = False

    @property
    def waiting(self) -> int:
        """Turns in the queue."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Turns on workers."""
        return self._running

    @property
    def held(self) -> int:
        """Turns that are over but for a thread that still runs; among those that run."""
        return self._held

    @property
    def is_stuck(self) -> bool:
        """Whether every thread runs for a call that is over, so that nothing can begin."""
        return self._is_stuck

    def turns(self) -> tuple[list[Turn], list[Turn]]:
        """Return the turns that run, and those that wait."""
        running = [worker.turn for worker in self._workers if worker.turn is not None]
        return running, list(self._queue)

    def offer(self, turn: Turn) -> bool:
        """Take `turn` if there is room; False, with nothing kept, if there is none.

        After `stop` it is taken and ended at once.
        """
        if len(self._queue) + self._running >= self._mark:
            return self._offer_closely(turn)
        self._queue.append(turn)
        if not self._is_waking:
            self._next_worker()
        return True

    def _offer_closely(self, turn: Turn) -> bool:
        """Do as `offer`, where the mailbox fills up, is stuck or stops."""
        if self._is_stopping:
            turn.ended(Code.UNAVAILABLE)
            return True
        taken = self._taken()
        if taken >= self._capacity:
            self._turned_away += 1
            return False
        self._queue.append(turn)
        if not self._is_waking:
            self._next_worker()
        if taken >= self._high:
            self._pass_high_water()
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
        if self._taken():
            try:
                await asyncio.wait_for(self._emptied(), timeout)
            except TimeoutError:
                _log.warning(
                    "drain: %d turns left after %.1f s", self._taken(), timeout
                )
        await self.stop()

    async def stop(self) -> None:
        """End what waits and what runs with `UNAVAILABLE`, and the workers.

        A turn that swallows its cancellation is answered after 1 s, and left to itself.
        """
        self._is_stopping = True
        self._mark = 0
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

    def _taken(self) -> int:
        return len(self._queue) + self._running

    async def _emptied(self) -> None:
        self._is_draining = True
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
            worker = _Worker(self._executor)
            self._workers.append(worker)
            worker.task = asyncio.get_running_loop().create_task(self._work(worker))
            worker.task.add_done_callback(lambda task: self._lost(worker, task))

    async def _work(self, worker: _Worker) -> None:
        loop = asyncio.get_running_loop()
        task = worker.task
        assert task is not None  # noqa: S101  # this one
        enter_place(worker)
        while True:
            self._running += 1
            try:
                await self._run(worker, loop)
            finally:
                self._running -= 1
            if self._is_stopping:  # a turn took its cancellation for itself
                return
            if self._is_over or self._is_draining:
                self._settle()
            if task.cancelling():  # by somebody else: ours are forgotten by now
                return
            idle = Bell(loop)
            self._idle.append(idle)
            await idle

    # Flat, because all of it runs for every message.
    async def _run(  # noqa: PLR0912, PLR0915
        self, worker: _Worker, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Run what waits, one turn after the other, until nothing does."""
        queue = self._queue
        self._is_waking = False
        self._runner = worker
        run_ends = perf_counter() + _RUN_SECONDS
        # It does not stop while a turn runs, so not before the next wait.
        if self._ticker is None and queue:
            self._start_ticking(loop)
        while queue and not self._is_breathing:
            turn = queue.popleft()
            if queue and not self._is_waking:
                self._next_worker()
            worker.turn = turn
            try:
                await turn.run()
            except asyncio.CancelledError:
                self._cut_short(worker, turn)
            except Exception:  # noqa: BLE001  a worker outlives its turns
                _log.exception("a turn failed outside its handler")
            finally:
                worker.turn = None
            self._done += 1
            if self._is_stopping:
                return
            if worker.cut is not None:
                self._forget_cut(worker)
            if worker.threads:
                await self._outlast(worker, turn)
            if self._is_over:
                self._running -= 1  # now it has none
                self._settle()
                self._running += 1
            if not queue:
                return
            if self._runner is not worker:  # the turn was suspended
                self._runner = worker
                run_ends = perf_counter() + _RUN_SECONDS
            elif perf_counter() >= run_ends:
                await self._breathe()
                run_ends = perf_counter() + _RUN_SECONDS
                if self._ticker is None:
                    self._start_ticking(loop)

    async def _breathe(self) -> None:
        """Let the loop read and write; the queue is left to the worker that calls this."""
        self._is_breathing = True
        self._running -= 1
        try:
            await asyncio.sleep(0)
        finally:
            self._running += 1
            self._is_breathing = False

    async def _outlast(self, worker: _Worker, turn: Turn) -> None:
        """Keep the place of a turn that is over, until its threads are done."""
        worker.turn, worker.is_held = turn, True
        self._held += 1
        if self._held >= self._threads and not self._is_stuck:
            self._get_stuck()
        try:
            while worker.threads:
                await asyncio.wait((worker.threads[-1],))
                worker.threads.pop()
        finally:
            worker.turn, worker.is_held = None, False
            self._held -= 1
            if self._is_stuck and self._held <= self._threads * 3 // 4:
                self._is_stuck = False
                self._set_capacity(self._room)

    def _get_stuck(self) -> None:
        """Refuse from now on, and refuse what waits: nothing can begin."""
        self._is_stuck = True
        self._set_capacity(0)
        self._on_stuck()
        self._pass_high_water()
        self._refuse_from(0)

    def _refuse_from(self, place: int) -> None:
        """Refuse the turns that wait in `place` of the queue and behind, the newest first."""
        while len(self._queue) > place:
            self._queue.pop().ended(Code.RESOURCE_EXHAUSTED)

    def _pass_high_water(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._turned_away += 1
            if self._on_full is not None:
                self._on_full()

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
        taken = self._taken()
        if self._is_over and taken <= self._low and not self._is_stuck:
            self._is_over = False
            if self._on_room is not None:
                self._on_room()
        if not taken:
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
        turn.ended(worker.cut or Code.INTERNAL)

    @staticmethod
    def _forget_cut(worker: _Worker) -> None:
        worker.cut = None
        if worker.task is not None:
            worker.task.uncancel()

    @staticmethod
    def _cut(worker: _Worker, why: Code) -> None:
        if worker.cut is None and worker.task is not None and not worker.is_held:
            worker.cut = why
            worker.task.cancel()

    def _start_ticking(self, loop: asyncio.AbstractEventLoop) -> None:
        self._pace.begin(loop.time(), self._done)
        self._ticker = loop.call_later(_TICK, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        """End the running turns whose time is up; one timer for all of them."""
        self._ticker = None
        now = loop.time()
        if self._sheds:
            self._adapt(now)
        if not (self._running or self._queue or self._pace.is_overloaded):
            return
        self._ticker = loop.call_later(_TICK, self._tick, loop)
        for worker in self._workers:
            turn = worker.turn
            if turn is not None and turn.deadline is not None and turn.deadline <= now:
                self._cut(worker, Code.DEADLINE_EXCEEDED)

    def _adapt(self, now: float) -> None:
        """Let fewer turns wait while the process is overloaded."""
        was_overloaded = self._pace.is_overloaded
        most = self._pace.tick(
            now,
            self._done,
            waiting=len(self._queue),
            turned_away=self._turned_away,
            is_full=self._running >= self.concurrency,
            is_away=self._is_over,
        )
        if most is None and not was_overloaded:
            return
        if most is None:
            _log.info("the process keeps up again")
            self._bound(self.concurrency, self.size)
        else:
            if not was_overloaded:
                _log.warning(
                    "more turns come than the process can do: at most %d may wait", most
                )
                self._refuse_from(self._pace.longest)
            # Turns that never suspend leave the other places free: only those that run
            # now count, so that what waits is no more than said.
            self._bound(self._running, min(most, self.size))
        if self._taken() >= self._high:
            self._pass_high_water()
        self._settle()

    def _bound(self, running: int, waiting: int) -> None:
        """Take as many turns as run and wait by these numbers."""
        self._room = running + waiting
        self._high = running + max(1, waiting * 3 // 4)
        self._low = running + waiting // 4
        if not self._is_stuck:
            self._set_capacity(self._room)

    def _set_capacity(self, turns: int) -> None:
        self._capacity = turns
        self._mark = 0 if self._is_stopping else min(turns, self._high)


def _next_turn(callback: Callable[[], object]) -> None:
    asyncio.get_running_loop().call_soon(callback)


def _is_cancelled(worker: _Worker) -> bool:
    """Tell whether somebody but us cancelled the worker's task."""
    ours = worker.cut is not None
    return worker.task is not None and worker.task.cancelling() > ours
