"""Senders of lines: a connected UDP socket and a TCP connection.  At most once.

A datagram to a port on which nobody listens is refused by the machine that has the port;
so each flush begins with an empty line, and the refusal of it keeps the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Final, Protocol

__all__ = ["Sender", "TcpSender", "UdpSender"]

_REFUSAL_SECONDS: Final = 0.02  # until a refusal from nearby is here
_FULL_SECONDS: Final = 0.01
_FULL_TRIES: Final = 20
_CONNECT_SECONDS: Final = 5.0


class Sender(Protocol):
    """Sends whole lines."""

    async def open(self) -> None:
        """Connect, if need be; called at the start of each flush.

        Raises:
            OSError: The receiver is not there.
        """
        ...

    async def send(self, batch: bytes) -> None:
        """Send lines, each with its end.

        Raises:
            OSError: They were not sent.
        """
        ...

    async def close(self) -> None:
        """Close the connection; another `open` may follow."""
        ...


class UdpSender:
    """One connected socket; the name is looked up again after each failure.

    Args:
        host: Where the receiver is.
        port: Its port.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._socket: socket.socket | None = None

    async def open(self) -> None:
        """Look up the name, connect, and see whether the machine refuses the port."""
        if self._socket is None:
            self._socket = await self._connected()
        self._socket.send(b"\n")
        await asyncio.sleep(_REFUSAL_SECONDS)
        error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            await self.close()
            raise ConnectionRefusedError(error, "nobody listens on the port")

    async def send(self, batch: bytes) -> None:
        """Send one datagram."""
        sock = self._socket
        if sock is None:
            raise ConnectionError("not connected")
        for _ in range(_FULL_TRIES):
            with contextlib.suppress(BlockingIOError):
                sock.send(batch)
                return
            await asyncio.sleep(_FULL_SECONDS)
        raise BlockingIOError("the socket takes no more")

    async def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _connected(self) -> socket.socket:
        found = await asyncio.get_running_loop().getaddrinfo(
            self._host, self._port, type=socket.SOCK_DGRAM
        )
        family, kind, protocol, _, place = found[0]
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        try:
            sock.connect(place)
        except OSError:
            sock.close()
            raise
        return sock


class TcpSender:
    """One connection, made again when the receiver has closed it.

    Args:
        host: Where the receiver is.
        port: Its port.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._reader: asyncio.StreamReader | None = (
            None  # None exactly when no writer is
        )
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        """Connect."""
        if self._reader is not None and self._reader.at_eof():
            await self.close()
        if self._writer is None:
            async with asyncio.timeout(_CONNECT_SECONDS):
                self._reader, self._writer = await asyncio.open_connection(
                    self._host, self._port
                )

    async def send(self, batch: bytes) -> None:
        """Send lines; returns when the system has taken them."""
        writer = self._writer
        if writer is None or writer.is_closing():
            raise ConnectionResetError("the receiver has closed the connection")
        writer.write(batch)
        await writer.drain()

    async def close(self) -> None:
        """Send what is left, and close the connection."""
        writer, self._reader, self._writer = self._writer, None, None
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_CONNECT_SECONDS):
                    await writer.wait_closed()
