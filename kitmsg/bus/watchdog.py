"""Looks after one connection, step by step, while it lives.

It brings back what died without a word, finds a link that answers nothing (`Pulse` judges),
and knows for how long the loop stood still, so that others know how old a message may be.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from kitmsg.bus.natspy import errors
from kitmsg.bus.pulse import STEP, Pulse, Verdict

if TYPE_CHECKING:
    from kitmsg.bus.connection import Connection

__all__ = ["Watchdog"]

# Seconds between two checks; more is a loop that stood still.
_STOOD: Final = STEP + 0.2


class Watchdog:
    """The checks of one connection.

    Args:
        connection: The connection; checked from `start` until it is closed.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._pulse = Pulse()
        # None before `start`.
        self._timer: asyncio.TimerHandle | None = None
        # What is read now came later than this: the loop turned then, or it had stood still
        # and the server has answered since, or a new link was about to subscribe.  A link
        # brings messages before it is up.
        self._turned = self._loop.time()

    def start(self) -> None:
        """Check from now on."""
        self._timer = self._loop.call_later(STEP, self._check)

    def stop(self) -> None:
        """Check no more."""
        if self._timer is not None:
            self._timer.cancel()

    def stood(self, now: float) -> float:
        """Return for how long what is read now may have lain here.  See `Bus`."""
        gap = now - self._turned
        return gap if gap > _STOOD else 0.0

    def caught_up(self, _pong: object = None) -> None:
        """Note that nothing that is read from now on is older than this."""
        self._turned = self._loop.time()

    def _check(self) -> None:
        connection = self._connection
        if connection.is_closed:
            return
        self._note_turn()
        if not connection.revive() and connection.up:
            self._feel_pulse()
        self.start()

    def _note_turn(self) -> None:
        """Note that the loop turns; after a stop, once what lay here has been read."""
        is_late = self._loop.time() - self._turned > _STOOD
        if not (is_late and self._connection.is_linked):
            self.caught_up()
            return
        pong: asyncio.Future[Any] = self._loop.create_future()
        pong.add_done_callback(self.caught_up)
        self._connection.ping_now(pong)  # its PONG stands behind what lay here

    def _feel_pulse(self) -> None:
        """Leave a server that answers nothing while something is awaited."""
        connection = self._connection
        verdict = self._pulse.check(
            self._loop.time(),
            connection.reads,
            connection.link.backlog,
            is_expecting=connection.is_expecting,
        )
        if verdict is Verdict.PING:
            connection.ping_now(self._loop.create_future())
        elif verdict is Verdict.DEAD:
            connection.lose(errors.Error("it answers nothing, not even a ping"))
