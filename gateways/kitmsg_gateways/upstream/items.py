"""The items of a reply that streams, whose end is told once: read, failed, closed or dropped.

A generator's ``finally`` does not run where nobody took its first item, so a stream that was
opened and dropped would be in flight for ever; hence an object.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import copy_context
from typing import Any, Final, TypeAlias, TypeVar

__all__ = ["Items"]

T = TypeVar("T")

Over: TypeAlias = Callable[[BaseException | None, int], None]
Close: TypeAlias = Callable[[], Awaitable[None]]

_ending: Final[set[asyncio.Task[Any]]] = set()  # of streams that were dropped


class Items(AsyncIterator[T]):
    """An async iterator over `items` that tells of its end, whichever it is.

    Hot path: `__anext__` runs for every item.

    Args:
        items: To read from.
        over: Called once, with the error that ended it and how many items were read: None
            at the end of `items`, `GeneratorExit` where its reader gave up.
        close: Closes where the items come from; by default `items`.
    """

    # Invariant: `_over` is there until the end was told.

    def __init__(
        self,
        items: AsyncIterator[T],
        over: Over,
        close: Close | None = None,
    ) -> None:
        self._next = items.__anext__
        self._over: Over | None = over
        self._close = close or getattr(items, "aclose", None)
        self._count = 0
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()

    async def __anext__(self) -> T:
        """Return the next item."""
        try:
            item = await self._next()
        except StopAsyncIteration:
            await self._end(None)
            raise
        except BaseException as exc:
            await self._end(exc)
            raise
        self._count += 1
        return item

    async def aclose(self) -> None:
        """Give up; after the end it does nothing."""
        await self._end(GeneratorExit())

    async def _end(self, error: BaseException | None) -> None:
        over, self._over = self._over, None
        if over is not None:
            await _end(over, error, self._count, self._close)

    def __del__(self) -> None:
        # Wherever the garbage collector runs, which may be in any task and thread.
        over, self._over = self._over, None
        if over is None:
            return
        error, count, loop = GeneratorExit(), self._count, self._loop

        def end() -> None:
            task = loop.create_task(_end(over, error, count, close))
            _ending.add(task)
            task.add_done_callback(_ending.discard)

        close = self._close
        try:
            loop.call_soon_threadsafe(end, context=self._context)
        except RuntimeError:  # the loop is closed, and connections with it
            over(error, count)


async def _end(
    over: Over, error: BaseException | None, count: int, close: Close | None
) -> None:
    try:
        if close is not None:
            await close()
    finally:
        over(error, count)
