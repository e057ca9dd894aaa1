"""Echo over WebSockets: kitmsg's service, aiohttp's own, and the client of both.

The variant of a server is ``kit``, or ``plain`` for aiohttp without a bus; that of the
client is the path.  It has 32 connections, and as many messages on them as are in flight.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp import web

import kitmsg
from kitmsg import Service, endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from benchmarks.peers import Call, Setting

__all__ = ["connect", "serve"]

_CONNECTIONS: Final = 32


class Echoer(Service):
    """Says what it hears."""

    @endpoint
    async def echo(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        """Give back each item."""
        async for item in items:
            yield item


async def serve(setting: Setting) -> Any:
    """Serve echo."""
    if setting.variant == "kit":
        kit = await kitmsg.connect(setting.url)
        await kit.serve(Echoer())
        return kit
    app = web.Application()
    app.router.add_get("/echo", _echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", setting.port).start()
    return runner


async def _echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


class _Connection:
    """One connection of a client, with several messages on their way."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._waiting: deque[asyncio.Future[int]] = deque()
        self._reading = asyncio.create_task(self._read())

    async def ask(self) -> int:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await self._socket.send_str("3")
        return await future

    async def _read(self) -> None:
        async for message in self._socket:
            self._waiting.popleft().set_result(int(message.data))


async def connect(setting: Setting) -> Call:
    """Return a call that sends a 3 and waits for it to come back."""
    session = aiohttp.ClientSession(f"http://127.0.0.1:{setting.port}")
    path = setting.variant
    sockets = [await session.ws_connect(path) for _ in range(_CONNECTIONS)]
    connections = itertools.cycle([_Connection(socket) for socket in sockets])

    async def call() -> int:
        return await next(connections).ask()

    return call
