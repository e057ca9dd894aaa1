"""Standard input, for a door whose one client is the process that started it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager

__all__ = ["Stdin", "serve_stdin"]

_log = logging.getLogger("kitmsg_gateways.edge.stdin")

_CHUNK: Final = 64 << 10
_STDIN: Final = 0

R = TypeVar("R")
W = TypeVar("W")


class Stdin:
    """The lines of standard input, to iterate over until it or this is closed.

    A thread of its own reads them: a pipe, a terminal and a file all work so, and a read
    that waits holds up no end of the process.

    Args:
        max_bytes: Longest line; a longer one ends the iteration, and is logged.
    """

    def __init__(self, max_bytes: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._max_bytes = max_bytes
        self._reader = asyncio.StreamReader(max_bytes, self._loop)
        self._is_open = True
        threading.Thread(target=self._pump, name="stdin", daemon=True).start()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Return the next line, with its end."""
        try:
            line = await self._reader.readline()
        except ValueError:
            _log.error(
                "a line on standard input is longer than %d bytes; nothing more is read",
                self._max_bytes,
            )
            line = b""
        if not line:
            raise StopAsyncIteration
        return line

    def close(self) -> None:
        """End the iteration, after the lines that are here."""
        self._feed(b"")

    def _pump(self) -> None:
        try:
            while data := os.read(_STDIN, _CHUNK):
                self._loop.call_soon_threadsafe(self._feed, data)
            self._loop.call_soon_threadsafe(self._feed, b"")
        except (OSError, RuntimeError):  # the loop has ended before its client
            return

    def _feed(self, data: bytes) -> None:
        if not self._is_open:
            return
        if data:
            self._reader.feed_data(data)
        else:
            self._is_open = False
            self._reader.feed_eof()


@contextlib.asynccontextmanager
async def serve_stdin(
    stdin: Stdin,
    streams: AbstractAsyncContextManager[tuple[R, W]],
    serve: Callable[[R, W], Coroutine[Any, Any, None]],
    ended: asyncio.Event,
) -> AsyncIterator[None]:
    """Serve the client at the other end of standard input while the context is open.

    Args:
        stdin: What `streams` read; closed at the end.
        streams: Give what `serve` reads and writes.
        serve: Returns when there is nothing more to read, and all is answered.
        ended: Set when it did.
    """
    async with streams as (read, write):
        client = asyncio.create_task(serve(read, write))
        client.add_done_callback(lambda _: ended.set())
        yield
        stdin.close()
        await asyncio.wait({client})
