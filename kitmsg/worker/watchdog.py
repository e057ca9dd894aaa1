"""Watches the event loop of a worker that has no parent, from a thread.

A handler that blocks the loop keeps its process from leaving the queue group, so calls go on
coming.  The thread has a duplicate of the connection and shuts it down, as a parent does for
its workers; the loop finds it lost when it turns again, and makes another.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from typing import TYPE_CHECKING, Final

from kitmsg.worker.control import BEAT_SECONDS
from kitmsg.worker.lifeline import Lender, Lifeline

if TYPE_CHECKING:
    from kitmsg.bus import Bus

__all__ = ["ALONE_SECONDS", "watch_loop"]

_log = logging.getLogger("kitmsg.worker")

ALONE_SECONDS: Final = 3.0
"""Seconds for which a loop may stand still where nobody here can take its calls."""

_LOOK_SECONDS: Final = 0.2


async def watch_loop(bus: Bus) -> None:
    """Cut the connection of `bus` whenever this event loop stands still; until cancelled."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    watchdog = _Watchdog(theirs)
    lender = Lender(ours, bus)
    watchdog.start()
    try:
        while True:
            watchdog.beat = time.monotonic()
            lender.refresh()
            await asyncio.sleep(BEAT_SECONDS)
    finally:
        watchdog.is_over.set()
        ours.close()


class _Watchdog(threading.Thread):
    """The thread.

    Attributes:
        beat: When the loop last turned; written by the loop, read by the thread.
        is_over: Set by the loop when there is nothing to watch any more.
    """

    def __init__(self, channel: socket.socket) -> None:
        super().__init__(name="kitmsg-watchdog", daemon=True)
        self.beat = time.monotonic()
        self.is_over = threading.Event()
        self._channel = channel

    def run(self) -> None:
        asyncio.run(self._watch())

    async def _watch(self) -> None:
        lifeline = Lifeline(self._channel)
        slept = time.monotonic()
        late = 0.0  # this thread itself, since the last beat: the process was stopped
        beat = self.beat
        while not self.is_over.is_set():
            await asyncio.sleep(_LOOK_SECONDS)
            now = time.monotonic()
            late += max(0.0, now - slept - 2 * _LOOK_SECONDS)
            if beat != self.beat:
                beat, late = self.beat, 0.0
            silent = now - beat - late
            if silent > ALONE_SECONDS and lifeline.cut():
                _log.warning(
                    "the event loop has stood still for %.1f s; its connection is cut, so"
                    " that calls go to others",
                    silent,
                )
            slept = now
        lifeline.close()
