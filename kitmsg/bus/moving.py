"""Parts of a move to another server without a gap: for a moment there are two links.

The new link subscribes before the old one leaves, so a message reaches at least one of
them.  A queue group's comes on one; any other may come on both, and is handed over once.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from kitmsg.bus.link import Link

__all__ = ["Held", "Overlap", "Parting"]

_Deliver: TypeAlias = "Callable[[int, bytes, bytes, bytes, bytes], None]"
_Key: TypeAlias = tuple[int, bytes, bytes, bytes, bytes]


class Overlap:
    """Deduplicates messages that arrive over both links.

    Each link brings each message at most once, so counting tells a copy from an equal
    message that was sent again.

    Args:
        deliver: Gets each message, as `Parser` gives it.
        queued: Ids of the subscriptions in queue groups, whose messages have no copies.
    """

    def __init__(self, deliver: _Deliver, queued: Collection[int]) -> None:
        self._deliver = deliver
        self._queued = queued
        # How many more of a message the old link has brought than the new one; those that
        # both brought equally often are not kept.
        self._ahead: dict[_Key, int] = {}

    def old(self, *message: *_Key) -> None:
        """Take a message from the old link."""
        self._take(message, 1)

    def new(self, *message: *_Key) -> None:
        """Take a message from the new link."""
        self._take(message, -1)

    def _take(self, message: _Key, side: int) -> None:
        if message[0] in self._queued:
            self._deliver(*message)
            return
        before = self._ahead.get(message, 0)
        if before == -side:
            del self._ahead[message]
        else:
            self._ahead[message] = before + side
        if before * side >= 0:
            self._deliver(*message)


class Held:
    """Stands for a socket that may not be written to yet."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Keep `data`."""
        self.chunks.append(data)

    def get_write_buffer_size(self) -> int:
        """Return the bytes kept."""
        return sum(map(len, self.chunks))


class Parting:
    """Control lines of a link that is not, or no longer, the one that is written to.

    Args:
        link: The link.
        pongs: Futures of the PONGs that it still owes.
    """

    def __init__(self, link: Link, pongs: list[asyncio.Future[bool]]) -> None:
        self._link = link
        self._pongs = pongs

    def control(self, line: bytes) -> None:
        """Answer a PING and note a PONG; the rest concerns nobody any more."""
        if line == b"PING":
            self._link.wire.write(b"PONG\r\n")
        elif line == b"PONG" and self._pongs:
            _end(self._pongs.pop(0))

    def ask(self, commands: bytes = b"") -> asyncio.Future[bool]:
        """Write `commands`; returns a future that ends when the server has taken them."""
        future = asyncio.get_running_loop().create_future()
        self._pongs.append(future)
        self._link.wire.write(commands + b"PING\r\n")
        return future

    def lost(self, _error: Exception | None = None) -> None:
        """Owe nothing any more: the link is gone."""
        pongs, self._pongs = self._pongs, []
        for future in pongs:
            _end(future)


def _end(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(True)
