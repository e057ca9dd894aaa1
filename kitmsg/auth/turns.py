"""Turns of a costly check among clients: a flood of guesses takes none from the others.

Clients wait in a queue each, served in rotation; those that guessed wrong lately come after
those that did not.  Who guesses at one name again and again has to wait longer each time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Final

from kitmsg.auth.recent import Recent
from kitmsg.errors import ResourceExhausted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Turns"]

_AT_ONCE: Final = 2
_WAITING: Final = 32  # of one client
_CLIENTS: Final = 1024
_FREE_GUESSES: Final = 5
_LONGEST_SECONDS: Final = 30.0
_REMEMBER_SECONDS: Final = 300.0


class Turns:
    """Gives turns, two at a time; one lives in one event loop."""

    def __init__(self) -> None:
        self._free = _AT_ONCE
        # Invariant: no queue is empty; the client whose turn is next stands first.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._counts: dict[str, int] = {}
        self._suspects: Recent[str, bool] = Recent()
        # Wrong guesses of a client at a name, and when the next may come.
        self._guesses: Recent[tuple[str, str], tuple[int, float]] = Recent()

    @contextlib.asynccontextmanager
    async def turn(self, client: str, name: str) -> AsyncIterator[None]:
        """Wait for a turn, and have it inside.

        Args:
            client: Who waits, such as an address.
            name: What is guessed at.

        Raises:
            ResourceExhausted: Too many of the client's wait already, or it has guessed at
                this name too often; with the time to wait.
        """
        self._check(client, name)
        self._counts[client] = self._counts.get(client, 0) + 1
        try:
            await self._take(client)
            try:
                yield
            finally:
                self._give()
        finally:
            self._counts[client] -= 1
            if not self._counts[client]:
                del self._counts[client]

    def failed(self, client: str, name: str) -> None:
        """Note a wrong guess."""
        self._suspects.put(client, True, _REMEMBER_SECONDS)
        count = (self._guesses.get((client, name)) or (0, 0.0))[0] + 1
        pause = min(2.0 ** (count - _FREE_GUESSES), _LONGEST_SECONDS)
        until = monotonic() + (pause if count >= _FREE_GUESSES else 0.0)
        self._guesses.put((client, name), (count, until), _REMEMBER_SECONDS)

    def held(self, client: str, name: str) -> None:
        """Note a guess that was right."""
        self._guesses.put((client, name), (0, 0.0), _REMEMBER_SECONDS)

    def _check(self, client: str, name: str) -> None:
        _, until = self._guesses.get((client, name)) or (0, 0.0)
        if (pause := until - monotonic()) > 0:
            raise ResourceExhausted("too many wrong guesses", retry_after=pause)
        is_crowd = len(self._waiting) >= _CLIENTS and client not in self._waiting
        is_late = is_crowd and (
            self._suspects.get(client) or len(self._waiting) >= 2 * _CLIENTS
        )
        if is_late or self._counts.get(client, 0) >= _WAITING:
            raise ResourceExhausted("too many passwords to check", retry_after=1.0)

    async def _take(self, client: str) -> None:
        if self._free and not self._waiting:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was just given
                self._give()
            raise

    def _give(self) -> None:
        """Pass a turn on to the next that waits."""
        while self._waiting:
            turns = (each for each in self._waiting if not self._suspects.get(each))
            client = next(turns, None) or next(iter(self._waiting))
            queue = self._waiting.pop(client)
            turn = queue.popleft()
            if queue:
                self._waiting[client] = queue  # behind the others
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
