"""A TCP proxy whose directions can be cut without a word, or slowed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Self

__all__ = ["Proxy"]


class Proxy:
    """``async with`` starts it; it listens on a port of its own.

    Args:
        port: Where it passes on to, on this machine.

    Attributes:
        drops_up: Whether what clients send is thrown away.
        drops_down: Whether what the server sends is.
        pause: Seconds to wait after each 64 kB upwards.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.drops_up = self.drops_down = False
        self.pause = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)  # as a far one
        self._server = await asyncio.start_server(self._accept, sock=sock)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        server = await asyncio.open_connection("127.0.0.1", self._port)
        for source, sink, is_up in (
            (reader, server[1], True),
            (server[0], writer, False),
        ):
            task = asyncio.create_task(self._pass_on(source, sink, is_up=is_up))
            self._tasks.add(task)

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_up: bool
    ) -> None:
        with contextlib.suppress(OSError), contextlib.closing(sink):
            while data := await source.read(64 << 10):
                if self.drops_up if is_up else self.drops_down:
                    continue
                sink.write(data)
                await sink.drain()
                if is_up and self.pause:
                    await asyncio.sleep(self.pause)
