"""The end of a process whose threads go on: they are named, and left behind.

Python waits for the threads of its pools before it ends, however long they hang.  By then the
drain is over and everybody was answered.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from concurrent.futures import Executor

__all__ = ["THREADS", "end_without"]

_log = logging.getLogger("kitmsg.worker")

THREADS: Final = "kitmsg"
"""Prefix of the names of the pools' threads."""

_GRACE_SECONDS: Final = 1.0
_STEP_SECONDS: Final = 0.02


async def end_without(executors: Iterable[Executor], code: int) -> None:
    """End the process here, with `code`, if threads of `executors` do not end in a second."""
    for executor in executors:
        executor.shutdown(wait=False, cancel_futures=True)
    left = _GRACE_SECONDS
    while (hung := _hung()) and left > 0:
        await asyncio.sleep(_STEP_SECONDS)
        left -= _STEP_SECONDS
    if not hung:
        return
    _log.error(
        "this process ends without %d threads that still run: %s",
        len(hung),
        ", ".join(thread.name for thread in hung),
        extra={"stacks": "\n".join(map(_stack, hung))},
    )
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


def _hung() -> list[threading.Thread]:
    """Return the threads that Python would wait for; it leaves daemons behind by itself."""
    return [
        thread
        for thread in threading.enumerate()
        if thread.name.startswith(THREADS) and not thread.daemon
    ]


def _stack(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001  # no other way
    lines = traceback.format_stack(frame) if frame is not None else []
    return f"{thread.name}:\n{''.join(lines)}".rstrip()
