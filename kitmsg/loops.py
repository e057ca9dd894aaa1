"""The event loop that processes run on: uvloop's where there is one."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["new_loop", "run", "settle"]

T = TypeVar("T")

_ALLOCATIONS: Final = 5000  # more new objects than that start a look for cycles


def new_loop() -> asyncio.AbstractEventLoop:
    """Return a new event loop."""
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end, as `asyncio.run` does, and return its result.

    For processes of kitmsg's own; see `settle`.
    """
    settle()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)


def settle() -> None:
    """Tell the garbage collector to leave alone what is loaded, and to look less often.

    What is loaded by now lives as long as the process.  A call leaves no cycles behind;
    looking for them took a twelfth of it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS, 20, 20)
