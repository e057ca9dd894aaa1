"""Reads a connection without a task: the socket's bytes go straight to the parser.

After the handshake it takes the place of the stream reader that nats-py uses.  The old
protocol stays behind it, for what asyncio's stream writer asks of it: writing paused,
connection lost.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from kitmsg.bus.wire import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.bus.wire import Parser

__all__ = ["Reader"]

_log = logging.getLogger("kitmsg.bus")


class Reader(asyncio.Protocol):
    """The protocol of a connected socket.

    Args:
        parser: Gets every byte.
        behind: The protocol that it takes the place of.
        on_lost: Called once, with the reason or None, when nothing more will come.
    """

    def __init__(
        self,
        parser: Parser,
        behind: asyncio.BaseProtocol,
        on_lost: Callable[[Exception | None], None],
    ) -> None:
        self._feed: Callable[[bytes], None] = parser.feed
        self._behind = behind
        self._on_lost: Callable[[Exception | None], None] | None = on_lost
        self._transport: asyncio.Transport | None = None

    def take_over(self, transport: asyncio.Transport, buffered: bytes) -> None:
        """Read from `transport` from now on; `buffered` came before."""
        self._transport = transport
        transport.set_protocol(self)
        if buffered:
            self.data_received(buffered)
        transport.resume_reading()  # the stream reader may have held it back

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        try:
            self._feed(data)
        except ProtocolError as error:
            self._lost(error)
        except Exception as error:  # noqa: BLE001  the link is of no more use
            _log.exception("the NATS reader failed")
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
