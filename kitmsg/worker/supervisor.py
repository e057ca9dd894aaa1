"""Keeps workers running: one parent process, a slot for each worker.

A worker that dies is started again, later each time; one whose event loop stands still is
killed and replaced; SIGHUP replaces all, one after the other, each new one ready before
its old one drains.  After Erlang's supervisors and nginx's workers.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from kitmsg.worker.child import Child
from kitmsg.worker.control import EXIT_CONFIG, EXIT_DENIED, EXIT_FAILED, Orders
from kitmsg.worker.watchdog import ALONE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kitmsg.worker.control import GatewayOrders
    from kitmsg.worker.settings import Settings

__all__ = ["Backoff", "Supervisor"]

_log = logging.getLogger("kitmsg.supervisor")

_GRACE_SECONDS: Final = 5.0
_STABLE_SECONDS: Final = 60.0
_PROGRESS_SECONDS: Final = 5.0
_GROUP_SECONDS: Final = 0.25  # between one process and the next of a group to hear
_MAX_DOUBLINGS: Final = 30
_LOOK_SECONDS: Final = 0.2  # between one look at the workers' heartbeats and the next
_SILENT_SECONDS: Final = 1.1  # two heartbeats, and a little


@dataclass(slots=True)
class Backoff:
    """Longer waits between one try and the next.

    Args:
        first: About the first wait, in seconds.
        longest: Longest wait, in seconds.
        tries: How many waits there were.
    """

    first: float = 0.1
    longest: float = 10.0
    tries: int = 0

    def next(self) -> float:
        """Return the next wait in seconds: it doubles, and is up to half shorter."""
        wait = min(self.longest, self.first * (1 << min(self.tries, _MAX_DOUBLINGS)))
        self.tries += 1
        return wait * random.uniform(0.5, 1.0)  # noqa: S311  # jitter, no secret

    def reset(self) -> None:
        """Begin with short waits again."""
        self.tries = 0


class _Slot:
    """The place of one worker: the process in it changes, the number stays."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.child: Child | None = None
        self.backoff = Backoff()
        self.restarts = 0
        self.has_failed = False


class Supervisor:
    """The parent of workers.

    Args:
        targets: What every worker serves.
        settings: How, and how many workers.
        environ: Environment of the workers; by default this process's.
        gateway: Which gateway the workers are; None when they serve `targets`.
        on_stop: Called when the end begins, before the workers are told.
        is_patient: Keep waiting for a `reload` when no worker can start, instead of
            ending; for development.
        on_modules: Told of the folders that workers' modules come from; None where nobody
            wants to know.

    Attributes:
        slots: One for each worker.
        problem: Why no worker could start; "" when one could.
    """

    def __init__(
        self,
        targets: tuple[str, ...],
        settings: Settings,
        *,
        environ: Mapping[str, str] | None = None,
        gateway: GatewayOrders | None = None,
        on_stop: Callable[[], object] = lambda: None,
        is_patient: bool = False,
        on_modules: Callable[[list[str]], None] | None = None,
    ) -> None:
        self.slots = [_Slot(index + 1) for index in range(settings.workers)]
        self.problem = ""
        self._targets = targets
        self._settings = settings
        # What a service connects to itself is the bus it is served on.
        self._environ = {
            **(os.environ if environ is None else environ),
            "NATS_URL": settings.nats_url,
        }
        self._gateway = gateway
        self._on_stop = on_stop
        self._is_patient = is_patient
        self._on_modules = on_modules
        self._code = 0
        self._was_ready = False
        self._stopping = asyncio.Event()
        self._fresh: Child | None = None  # on its way into a slot
        self._old: set[asyncio.Task[None]] = set()
        self._rolling = asyncio.Lock()
        self._changed = asyncio.Event()  # a slot has another child, or a reason to try

    @property
    def children(self) -> list[Child]:
        """The workers there are now; those being replaced are not among them."""
        return [slot.child for slot in self.slots if slot.child is not None]

    @property
    def is_stopping(self) -> bool:
        """Whether the end has begun."""
        return self._stopping.is_set()

    async def run(self) -> int:
        """Keep the workers running until `stop`; returns the exit code."""
        keepers = [asyncio.create_task(self._keep(slot)) for slot in self.slots]
        watchdog = asyncio.create_task(self._watch())
        try:
            await asyncio.gather(*keepers)
        finally:
            watchdog.cancel()
            for keeper in keepers:
                keeper.cancel()
            self.kill()
        if self._old:
            await asyncio.wait(self._old)
        return self._code

    def stop(self) -> None:
        """Drain all workers; `run` returns when they have ended."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._changed.set()
        self._on_stop()
        for child in self._all():
            self._retire(child)

    def kill(self) -> None:
        """End all workers now."""
        self._stopping.set()
        self._changed.set()
        for child in self._all():
            child.kill()

    async def reload(self) -> bool:
        """Replace the workers one after the other; False if a new one cannot start.

        Each new worker is ready before its old one drains, so no call fails.  The first
        that cannot start ends it, and what runs goes on.  A reload overtakes one that
        still waits for its new worker.
        """
        if self._fresh is not None:
            self._fresh.draining = True
            self._fresh.kill()
        async with self._rolling:
            for slot in self.slots:
                if self.is_stopping or not await self._replace(slot):
                    return False
        return True

    async def wait_ready(self) -> bool:
        """Wait until a worker serves; False if none can, see `problem`."""
        while not self.is_stopping:
            if any(child.is_ready for child in self.children):
                return True
            if self.problem:
                return False
            self._changed.clear()
            await self._changed.wait()
        return False

    def _all(self) -> list[Child]:
        return self.children + ([self._fresh] if self._fresh else [])

    # -- one slot

    async def _keep(self, slot: _Slot) -> None:
        while not self.is_stopping:
            if slot.child is None or not slot.child.is_alive:
                slot.child = await self._spawn(slot)
            child = slot.child
            started = asyncio.get_running_loop().time()
            code = await self._watched(child)
            if child is not slot.child:
                continue  # it was replaced
            lived = asyncio.get_running_loop().time() - started
            if not await self._after_end(slot, child, code, lived):
                return

    async def _watched(self, child: Child) -> int:
        """Wait for the end of `child`, and tell when it is ready."""
        if await child.until_ready():
            self._was_ready = True
            self.problem = ""
            self._changed.set()
        return await child.wait()

    async def _after_end(
        self, slot: _Slot, child: Child, code: int, lived: float
    ) -> bool:
        """Decide what follows the end of a worker; False for nothing more."""
        if not (code or self.is_stopping):
            # It drained, though not by our word: by a signal to all of the process group,
            # perhaps, and then ours is on its way.
            await self._pause(_GROUP_SECONDS)
        if self.is_stopping:
            return False
        slot.has_failed = slot.has_failed or not child.was_ready
        if self._is_hopeless(code):
            self._give_up(child, code)
            if not self._is_patient:
                return False
            await self._until_reload(slot, child)
            return True
        self._note(slot, child, code)
        if child.was_ready and lived > _STABLE_SECONDS:
            slot.backoff.reset()
        slot.restarts += 1
        wait = slot.backoff.next()
        _log.warning("worker %d starts again in %.1f s", slot.index, wait)
        await self._pause(wait)
        return True

    def _note(self, slot: _Slot, child: Child, code: int) -> None:
        """Log the end of a worker that will be started again."""
        facts = {"child": child.pid}
        if child.was_ready or child.failure is None:
            _log.error("worker %d %s", slot.index, _ending(code), extra=facts)
            return
        # Before any worker served, the cause is told once, when all have failed.
        level = logging.ERROR if self._was_ready else logging.DEBUG
        why, extra = child.failure["why"], facts | _stack(child)
        _log.log(level, "worker %d cannot start: %s", slot.index, why, extra=extra)

    def _is_hopeless(self, code: int) -> bool:
        """Tell whether no worker can be expected to start: none ever did."""
        if self._was_ready:
            return False
        return code in (EXIT_CONFIG, EXIT_DENIED) or all(
            slot.has_failed for slot in self.slots
        )

    def _give_up(self, child: Child, code: int) -> None:
        if not self.problem:
            why = child.failure["why"] if child.failure else f"it {_ending(code)}"
            self.problem = why
            is_told = code in (EXIT_CONFIG, EXIT_DENIED)
            self._code = code if is_told else EXIT_FAILED
            _log.error("no worker can start: %s", why, extra=_stack(child))
        self._changed.set()
        if not self._is_patient:
            self.stop()

    async def _spawn(self, slot: _Slot) -> Child:
        orders = Orders(
            targets=self._targets,
            settings=self._settings,
            index=slot.index,
            restarts=slot.restarts,
            parent=os.getpid(),
            gateway=self._gateway,
            tells_modules=self._on_modules is not None,
        )
        on_modules = self._on_modules or (lambda _: None)
        child = await Child.start(orders, self._environ, on_modules)
        if self.is_stopping:
            self._retire(child)
        return child

    async def _replace(self, slot: _Slot) -> bool:
        fresh = self._fresh = await self._spawn(slot)
        is_ready = await fresh.until_ready()
        self._fresh = None
        if not is_ready:
            code = await fresh.wait()
            why = fresh.failure["why"] if fresh.failure else f"it {_ending(code)}"
            self.problem = why
            if not (self.is_stopping or fresh.draining):
                text = "the new worker %d cannot start: %s"
                _log.error(text, slot.index, why, extra=_stack(fresh))
            self._changed.set()
            return False
        old, slot.child = slot.child, fresh
        slot.has_failed = False
        slot.backoff.reset()
        self._was_ready = True
        self.problem = ""
        self._changed.set()
        if old is not None and old.is_alive:
            self._retire(old)
        return True

    async def _until_reload(self, slot: _Slot, child: Child) -> None:
        """Wait until another child is in the slot, or the end."""
        while slot.child is child and not self.is_stopping:
            self._changed.clear()
            await self._changed.wait()

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    # -- the end of a worker

    def _retire(self, child: Child) -> None:
        task = asyncio.create_task(self._drain(child))
        self._old.add(task)
        task.add_done_callback(self._old.discard)

    async def _drain(self, child: Child) -> None:
        """Ask a worker to end, and make it end when it takes too long."""
        child.stop()
        left = child.drain_timeout + _GRACE_SECONDS
        end = asyncio.ensure_future(child.wait())
        while left > 0:
            step = min(left, _PROGRESS_SECONDS)
            await asyncio.wait((end,), timeout=step)
            if end.done():
                return
            left -= step
            _log.info("worker %d drains, %.0f s left", child.orders.index, left)
        _log.error("worker %d did not end in time; killed", child.orders.index)
        child.kill()
        await end

    # -- the watchdog

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        limit = self._settings.watchdog
        while True:
            before = loop.time()
            await asyncio.sleep(_LOOK_SECONDS)
            now = loop.time()
            self._forgive(now - before - _LOOK_SECONDS, now)
            for child in self.children:
                silent = 0.0 if child.last_beat is None else now - child.last_beat
                if child.is_alive and limit and silent > limit:
                    await self._replace_stuck(child, silent)
                elif child.is_ready and silent > self._patience(child, now):
                    self._cut(child, silent)

    def _forgive(self, late: float, now: float) -> None:
        """Take what this process itself was late off the silence of its workers."""
        for child in self.children:
            if child.last_beat is not None:
                child.last_beat = min(now, child.last_beat + late)

    def _patience(self, child: Child, now: float) -> float:
        """Return for how long a worker may be silent until its calls go to others.

        Long when there are no others here: a pause then costs the calls in it, and there
        may be nobody else to take them.
        """
        others = any(
            other.is_ready and now - (other.last_beat or 0.0) < _SILENT_SECONDS
            for other in self.children
            if other is not child
        )
        return _SILENT_SECONDS if others else ALONE_SECONDS

    def _cut(self, child: Child, seconds: float) -> None:
        if child.cut():
            _log.warning(
                "worker %d: its event loop has stood still for %.1f s; its connection is"
                " cut, so that calls go to others",
                child.orders.index,
                seconds,
                extra={"child": child.pid},
            )

    async def _replace_stuck(self, child: Child, seconds: float) -> None:
        stacks = await child.dump()
        facts: dict[str, Any] = {"child": child.pid}
        if stacks:
            facts["stacks"] = stacks.rstrip()
        why = (
            "it has drained, but its process goes on after %.1f s; killed"
            if child.has_ended
            else "its event loop has stood still for %.1f s; killed. Blocking code belongs"
            " in a plain `def` endpoint, which runs in a thread"
        )
        _log.error(f"worker %d: {why}", child.orders.index, seconds, extra=facts)
        child.kill()
        await child.wait()


def _stack(child: Child) -> dict[str, str]:
    stack = child.failure["stack"].rstrip() if child.failure else ""
    return {"stack": stack} if stack else {}


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
