"""An async context that lasts as long as a gateway, entered and left in a task of its own.

Libraries built on cancel scopes (anyio) want one task for both ends; a gateway may be
started in one and stopped in another.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

__all__ = ["Running"]

_STOP_SECONDS: Final = 5.0


class Running:
    """A context that is open from `start` to `stop`.

    Args:
        enter: Makes it.
    """

    def __init__(self, enter: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
        self._enter = enter
        self._is_over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Enter the context; raises what that raises."""
        is_open = asyncio.Event()
        self._task = asyncio.create_task(self._run(is_open))
        opened = asyncio.create_task(is_open.wait())
        await asyncio.wait({self._task, opened}, return_when="FIRST_COMPLETED")
        opened.cancel()
        if self._task.done():
            await self._task

    async def stop(self) -> None:
        """Leave the context; what does not end in five seconds is cancelled."""
        self._is_over.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_STOP_SECONDS)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, is_open: asyncio.Event) -> None:
        async with self._enter():
            is_open.set()
            await self._is_over.wait()
