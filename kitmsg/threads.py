"""Blocking code in threads: as many at once as the service has turns, and counted as turns.

A thread cannot be ended from outside.  A call whose time is up is answered at once, but as
long as its thread runs it keeps its turn, so that a mailbox never runs more threads than it
has turns, and shows those that hang.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

__all__ = ["Beside", "Place", "enter_place", "in_thread"]

T = TypeVar("T")


class Place(Protocol):
    """The turn of a mailbox that threads belong to."""

    executor: Executor | None
    """Runs them; None for the event loop's own."""

    def hold(self, thread: asyncio.Future[Any]) -> None:
        """Keep the turn's place until `thread` is done, which nobody awaits any more."""
        ...


_place: ContextVar[Place | None] = ContextVar("kitmsg.threads.place", default=None)


def enter_place(place: Place) -> None:
    """Have the threads of the task that runs, and of tasks that it starts, belong there."""
    _place.set(place)


async def in_thread(call: Callable[..., T], *args: Any) -> T:
    """Run `call` in a thread of the turn's service, with the caller's context variables.

    When this is cancelled, a call that waits for a thread is dropped, and one that runs
    keeps its turn until it returns; what it returns or raises then is dropped.

    Raises:
        RuntimeError: The call raised StopIteration, which a future cannot hold.
    """
    place = _place.get()
    job = _Job(call, args)
    executor = None if place is None else place.executor
    thread: asyncio.Future[T] = asyncio.get_running_loop().run_in_executor(
        executor, copy_context().run, job.run
    )
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        job.is_dropped = True
        if job.has_begun and place is not None and not thread.done():
            place.hold(thread)
        raise


class Beside:
    """A place without turns: threads run there, and those that hang are nobody's.

    Args:
        executor: As for `Place`.
    """

    def __init__(self, executor: Executor | None) -> None:
        self.executor = executor

    def hold(self, thread: asyncio.Future[Any]) -> None:
        """Let `thread` go on by itself."""


class _Job:
    """A call on its way to a thread, or in one."""

    # The loop sets one flag and reads the other, the thread the other way round: either
    # the thread sees that the call is dropped, or the loop sees that it has begun.
    __slots__ = ("args", "call", "has_begun", "is_dropped")

    def __init__(self, call: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.call = call
        self.args = args
        self.has_begun = False
        self.is_dropped = False

    def run(self) -> Any:
        self.has_begun = True
        if self.is_dropped:
            return None
        try:
            return self.call(*self.args)
        except StopIteration as error:
            # A future cannot hold one: its waiter would never wake.
            raise RuntimeError("the endpoint raised StopIteration") from error
