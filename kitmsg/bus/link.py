"""A socket to a NATS server: nats-py's TCP transport, whose end never takes long."""

from __future__ import annotations

import asyncio
import sys
from array import array
from typing import TYPE_CHECKING, Any, Final, cast

from kitmsg.bus.natspy import TcpTransport
from kitmsg.bus.reader import Reader

if sys.platform == "linux":
    import fcntl
    import termios

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CLOSE_SECONDS", "Link"]

CLOSE_SECONDS: Final = 1.0


class Link(TcpTransport):
    """A socket whose end never takes long, even when the other side is silent."""

    _reader: Reader | None = None

    async def connect_tls(self, *args: Any, **kwargs: Any) -> None:
        """Encrypt, and give the reader its flow control back.

        nats-py makes a new reader for TLS and does not tell it of its transport.
        """
        await super().connect_tls(*args, **kwargs)
        protocol = self.wire.get_protocol()
        if protocol is None:  # it was closed right after the handshake
            raise ConnectionResetError
        protocol.connection_made(self.wire)

    def read_with(
        self,
        feed: Callable[[bytes], None],
        on_lost: Callable[[Exception | None], None],
    ) -> None:
        """Feed all that comes from now on to the parser; see `Reader`."""
        reader = self._io_reader
        behind = self.wire.get_protocol()
        assert reader is not None  # noqa: S101  # connected by its maker
        assert behind is not None  # noqa: S101
        # The stream reader has no public way to say what it holds.
        buffer: bytearray = reader._buffer  # type: ignore[attr-defined]  # noqa: SLF001
        buffered = bytes(buffer)
        buffer.clear()
        transport = cast("asyncio.Transport", self.wire)
        self._reader = Reader(feed, behind, on_lost)
        self._reader.take_over(transport, buffered)
        if reader.at_eof():
            on_lost(None)

    def feed_with(
        self,
        feed: Callable[[bytes], None],
        on_lost: Callable[[Exception | None], None],
    ) -> None:
        """Change what `read_with` has set."""
        assert self._reader is not None  # noqa: S101  # `read_with` comes first
        self._reader.feed_with(feed, on_lost)

    async def wait_closed(self) -> None:
        """Wait a second for what is buffered to leave, then let go."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await super().wait_closed()  # type: ignore[no-untyped-call]
        except (TimeoutError, OSError):
            self.abort()

    def fileno(self) -> int:
        """Return the descriptor of the socket; -1 when it is closed."""
        if self._io_writer is None:
            return -1
        sock = self._io_writer.transport.get_extra_info("socket")
        return -1 if sock is None else int(sock.fileno())

    def abort(self) -> None:
        """Close at once; what is buffered is lost."""
        if self._io_writer is not None:
            self._io_writer.transport.abort()

    @property
    def backlog(self) -> int:
        """Bytes written that the other side has not acknowledged, as far as is known."""
        waiting = self.wire.get_write_buffer_size()
        sock = self.wire.get_extra_info("socket")
        if sock is None or sys.platform != "linux":
            return waiting
        unsent = array("i", [0])
        try:
            fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, unsent)
        except (OSError, ValueError):  # closed, which others will find
            return waiting
        return waiting + unsent[0]

    @property
    def wire(self) -> asyncio.WriteTransport:
        """The socket's transport: writes to it never wait."""
        assert self._io_writer is not None  # noqa: S101  # connected by its maker
        return self._io_writer.transport
