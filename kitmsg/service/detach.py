"""Detached work: it outlives the call it began in.

    kitmsg.detached(self.send_receipt(order))

It has no deadline and is not cancelled with the call; its own calls carry the same trace
and request id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextvars import copy_context
from typing import Any, TypeVar

from kitmsg.context import current, enter

__all__ = ["detached"]

T = TypeVar("T")

_log = logging.getLogger("kitmsg.service")

_running: set[asyncio.Task[Any]] = set()  # asyncio itself keeps no task alive


def detached(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start work that the running call does not wait for, and return its task.

    Nothing outside this process knows of it: it is lost with the process, a drain does not
    wait for it, and it takes no place in the mailbox.  What it raises is logged.  To wait
    for it without giving it the call's own cancellation, await `asyncio.shield` of it.

    Raises:
        TypeError: `work` is no coroutine; call the async function that it is.
    """
    if not asyncio.iscoroutine(work):
        raise TypeError(
            f"detached() takes a coroutine, not {work!r}; call the async function:"
            " detached(self.rebuild())"
        )
    ctx, scope = current(), copy_context()
    if ctx.deadline is not None:
        scope.run(enter, ctx.evolve(deadline=None))
    task = asyncio.create_task(work, context=scope)
    _running.add(task)
    task.add_done_callback(_ended)
    return task


def _ended(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        name = task.get_coro().__qualname__  # type: ignore[union-attr]
        _log.error("detached work %s failed: %s", name, error, exc_info=error)
