"""``@background`` and ``self.spawn``: work that goes on beside the turns of an instance.

It is supervised: a background method that fails begins again, after a backoff; a spawned
task that fails is logged.  Drain cancels the first, and waits for the second.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

__all__ = ["Tasks", "background", "is_background"]

_log = logging.getLogger("kitmsg.service")

_MARK: Final = "__kit_background__"
_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 30.0
_HEALTHY_SECONDS: Final = 60.0
_CANCEL_SECONDS: Final = 3.0

M = TypeVar("M", bound=Callable[..., Coroutine[Any, Any, Any]])
T = TypeVar("T")


def background(method: M) -> M:
    """Run a method of a `Service` for as long as each instance serves.

    It begins after the instance's `start`.  One that raises is logged and begins again
    after a wait that grows from half a second to 30 s; one that returns is done.  Drain
    cancels it, before the instance's `stop`.

    Raises:
        TypeError: It is no ``async def``.
    """
    if not asyncio.iscoroutinefunction(method):
        name = getattr(method, "__qualname__", repr(method))
        raise TypeError(f"@background: {name} must be an async def without arguments")
    setattr(method, _MARK, True)
    return method


def is_background(member: Any) -> bool:
    """Tell whether a member runs in the background."""
    return getattr(member, _MARK, False) is True


class Tasks:
    """Tasks of one instance.

    Args:
        owner: Its service's name, for the log.
    """

    def __init__(self, owner: str) -> None:
        self._owner = owner
        # Until they are done; `_background` are those that never have to be.
        self._spawned: set[asyncio.Task[Any]] = set()
        self._background: set[asyncio.Task[None]] = set()

    def run(self, name: str, method: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Run a background method, again and again until it returns."""
        task = asyncio.create_task(self._again(name, method))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def spawn(self, work: Coroutine[Any, Any, T], name: str = "") -> asyncio.Task[T]:
        """Run a coroutine beside the turns; its failure is logged."""
        task = asyncio.create_task(work, name=name or None)
        self._spawned.add(task)
        task.add_done_callback(self._spawn_done)
        return task

    async def drain(self, timeout: float) -> None:
        """Cancel the background methods; wait `timeout` s for what was spawned."""
        await self._cancel(self._background)
        if self._spawned:
            await asyncio.wait(tuple(self._spawned), timeout=max(0.0, timeout))
        await self._cancel(self._spawned)

    async def _cancel(self, tasks: set[asyncio.Task[Any]]) -> None:
        left = tuple(tasks)
        for task in left:
            task.cancel()
        if left:
            _, stuck = await asyncio.wait(left, timeout=_CANCEL_SECONDS)
            for task in stuck:
                _log.error("%s: %s swallows its cancellation", self._owner, task)

    async def _again(
        self, name: str, method: Callable[[], Coroutine[Any, Any, Any]]
    ) -> None:
        loop = asyncio.get_running_loop()
        wait = _FIRST_WAIT
        while True:
            begun = loop.time()
            try:
                await method()
            except Exception:  # noqa: BLE001  logged, and begun again
                if loop.time() - begun >= _HEALTHY_SECONDS:
                    wait = _FIRST_WAIT
                pause = wait * random.uniform(0.75, 1.25)  # noqa: S311  a jitter
                _log.exception(
                    "%s.%s failed; it begins again in %.1f s", self._owner, name, pause
                )
                await asyncio.sleep(pause)
                wait = min(_LONGEST_WAIT, wait * 2)
            else:
                return

    def _spawn_done(self, task: asyncio.Task[Any]) -> None:
        self._spawned.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error(
                "%s: a spawned task failed", self._owner, exc_info=task.exception()
            )
