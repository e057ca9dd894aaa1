"""A network between a client and a server on this machine, which can hold and cut.

It runs on a thread of its own, so that it is never late because its user is.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Relay"]

_CHUNK: Final = 64 << 10


class Relay:
    """``with`` starts it; it listens on a port of its own.

    Args:
        port: Where it passes on to, on 127.0.0.1.

    Attributes:
        url: Its address for NATS clients.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        # Whether bytes pass, towards the server and from it; used on the loop only.
        self._up = asyncio.Event()
        self._down = asyncio.Event()
        # All sockets, so that they can be cut.
        self._writers: set[asyncio.StreamWriter] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        listening = asyncio.run_coroutine_threadsafe(self._listen(), self._loop)
        self.url = f"nats://127.0.0.1:{listening.result()}"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def hold(self, *, up: bool = True, down: bool = True) -> None:
        """Keep what comes, ends of connections too, and let nothing new connect."""
        self._do(*[self._up.clear] * up, *[self._down.clear] * down)

    def let_go(self) -> None:
        """Pass on what was held, and all that follows."""
        self._do(self._up.set, self._down.set)

    def cut(self) -> None:
        """Abort the connections that there are; both sides hear it."""
        self._do(self._abort, self._up.set, self._down.set)

    def hang(self) -> None:
        """Pass nothing from the server any more on the connections that there are.

        New ones work, as they do over another way.
        """
        self._do(self._down.clear, self._renew)

    def _do(self, *calls: Callable[[], None]) -> None:
        for call in calls:
            self._loop.call_soon_threadsafe(call)

    def _renew(self) -> None:
        self._down = asyncio.Event()
        self._down.set()

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _listen(self) -> int:
        self._up.set()
        self._down.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _close(self) -> None:
        self._server.close()
        self._abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        up, down = self._up, self._down
        self._writers.add(writer)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # start_server makes one
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(OSError, asyncio.CancelledError):  # of `_close`
            await up.wait()
            await down.wait()
            server = await asyncio.open_connection("127.0.0.1", self._port)
            self._writers.add(server[1])
            await asyncio.gather(
                self._pass_on(reader, server[1], up),
                self._pass_on(server[0], writer, down),
            )
        writer.transport.abort()

    async def _pass_on(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        passes: asyncio.Event,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(_CHUNK):
                await passes.wait()
                sink.write(data)
                await sink.drain()
            await passes.wait()
        self._writers.discard(sink)
        sink.transport.abort()
