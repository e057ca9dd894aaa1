"""Messages of a WebSocket that wait to be taken: not many, or the socket is not read."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from kitmsg.errors import Unavailable

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["Inbox"]

_FULL_BYTES: Final = 1 << 16
_FULL_ITEMS: Final = 64


class Inbox:
    """Queue of the messages that came on a connection; one task takes them.

    Args:
        protocol: The connection.

    Attributes:
        is_paused: Whether the connection is not read, until more is taken.
    """

    __slots__ = ("_bytes", "_is_shut", "_messages", "_protocol", "_waiter", "is_paused")

    def __init__(self, protocol: web.RequestHandler) -> None:
        self.is_paused = False
        self._protocol = protocol
        self._messages: deque[bytes] = deque()
        self._bytes = 0  # of all in `_messages`
        self._is_shut = False
        # Of the one task that takes messages; None unless it waits and there are none.
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_awaited(self) -> bool:
        """Whether all that came is taken, and its taker waits for more."""
        return self._waiter is not None and not self._messages

    def put(self, message: bytes) -> None:
        """Keep a message until it is taken."""
        self._messages.append(message)
        self._bytes += len(message)
        self._wake()
        is_full = self._bytes > _FULL_BYTES or len(self._messages) > _FULL_ITEMS
        if is_full and not self.is_paused:
            self.is_paused = True
            self._protocol.pause_reading()

    async def get(self) -> bytes:
        """Return the next message.

        Raises:
            Unavailable: There is none, and it is shut.
        """
        while not self._messages:
            if self._is_shut:
                raise Unavailable("the gateway is stopping")
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        message = self._messages.popleft()
        self._bytes -= len(message)
        if len(self._messages) <= _FULL_ITEMS // 2:
            self.go_on()
        return message

    def go_on(self) -> None:
        """Read from the connection, if it is not read."""
        if self.is_paused:
            self.is_paused = False
            self._protocol.resume_reading()

    def shut(self) -> None:
        """Let nobody wait for more."""
        self._is_shut = True
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
