"""Reads a connection without a task: the socket's bytes go straight to the parser.

After the handshake it takes the place of the stream reader that nats-py uses.  The old
protocol stays behind it, for what asyncio's stream writer asks of it: writing paused,
connection lost.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from kitmsg.bus.wire import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Reader"]

_log = logging.getLogger("kitmsg.bus")
_GULP_BYTES: Final = 64 << 10


class Reader(asyncio.Protocol):
    """The protocol of a connected socket.

    Args:
        feed: Gets every byte; raises `ProtocolError` for what it cannot parse.
        behind: The protocol that it takes the place of.
        on_lost: Called once, with the reason or None, when nothing more will come.
    """

    def __init__(
        self,
        feed: Callable[[bytes], None],
        behind: asyncio.BaseProtocol,
        on_lost: Callable[[Exception | None], None],
    ) -> None:
        self._feed = feed
        self._behind = behind
        self._on_lost: Callable[[Exception | None], None] | None = on_lost
        self._transport: asyncio.Transport | None = None
        self._swallowed = 0  # bytes since the last rest
        self._rest = b""  # read, and waiting for the next turn of the loop

    def take_over(self, transport: asyncio.Transport, buffered: bytes) -> None:
        """Read from `transport` from now on; `buffered` came before."""
        self._transport = transport
        transport.set_protocol(self)
        if buffered:
            self.data_received(buffered)
        transport.resume_reading()  # the stream reader may have held it back

    def feed_with(
        self,
        feed: Callable[[bytes], None],
        on_lost: Callable[[Exception | None], None],
    ) -> None:
        """Feed somebody else from now on, unless the connection is lost."""
        if self._on_lost is not None:
            self._feed, self._on_lost = feed, on_lost

    # A loop may read a megabyte before anybody else has a turn.  What came first is to be
    # worked on meanwhile, or mailboxes fill up that are not slow at all.  So: one gulp,
    # then everybody else, then the next.

    def data_received(self, data: bytes) -> None:
        """Parse what came, at most a gulp of it in one turn of the loop."""
        swallowed = self._swallowed = self._swallowed + len(data)
        if swallowed > _GULP_BYTES:
            self._gulp(data)
            return
        try:
            self._feed(data)
        except Exception as error:  # noqa: BLE001  the link is of no more use
            self._failed(error)

    def _gulp(self, data: bytes) -> None:
        """Parse a gulp at most, and leave the rest to the next turn."""
        if len(data) > _GULP_BYTES:
            data, self._rest = data[:_GULP_BYTES], data[_GULP_BYTES:]
        self._parse(data)
        if self._transport is not None:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        """Take the next gulp, or read on when there is none."""
        data, self._rest = self._rest[:_GULP_BYTES], self._rest[_GULP_BYTES:]
        if data:
            self._parse(data)
            asyncio.get_running_loop().call_soon(self._go_on)
        elif self._transport is not None and not self._transport.is_closing():
            self._swallowed = 0
            self._transport.resume_reading()

    def _parse(self, data: bytes) -> None:
        try:
            self._feed(data)
        except Exception as error:  # noqa: BLE001  the link is of no more use
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, ProtocolError):
            _log.error("the NATS reader failed", exc_info=error)
        self._lost(error)

    def eof_received(self) -> bool:
        """The server has said its last: close."""
        self._lost(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner, and the stream writer."""
        self._lost(exc)
        self._behind.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass it on to the stream writer."""
        self._behind.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on to the stream writer."""
        self._behind.resume_writing()

    def _lost(self, error: Exception | None) -> None:
        on_lost, self._on_lost = self._on_lost, None
        if on_lost is not None:
            self._feed = _drop
            on_lost(error)


def _drop(_data: bytes) -> None:
    """Take what still comes from a link that is given up."""
