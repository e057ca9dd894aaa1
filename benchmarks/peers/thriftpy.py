"""thriftpy2's own asyncio server with the work in process, and the client of every peer."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Any, Final

import thriftpy2
from thriftpy2.contrib.aio.rpc import make_client, make_server

if TYPE_CHECKING:
    from benchmarks.peers import Call, Setting

__all__ = ["connect", "serve"]

_IDL: Final = "service Calculator { i64 sum(1: i64 a, 2: i64 b) }"
"""As `kitmsg export thrift` writes it."""

_service: Final[Any] = thriftpy2.load_fp(
    io.StringIO(_IDL), "calculator_thrift"
).Calculator


class _Calculator:
    """Adds numbers."""

    async def sum(self, a: int, b: int) -> int:
        """Return the sum of two numbers."""
        return a + b


async def serve(setting: Setting) -> Any:
    """Serve sum."""
    server = make_server(
        _service,
        _Calculator(),
        host="127.0.0.1",
        port=setting.port,
        client_timeout=600_000,  # its connections rest while others are measured
        loop=asyncio.get_running_loop(),
    )
    server.trans.listen()
    # Its own `serve` would run the loop, which runs already.
    return await server.trans.accept(server.handle)


async def connect(setting: Setting) -> Call:
    """Return a call that takes an idle connection, or opens one."""
    idle: list[Any] = []

    async def call() -> int:
        client = idle.pop() if idle else await _open(setting.port)
        result: int = await client.sum(1, 2)
        idle.append(client)
        return result

    return call


async def _open(port: int) -> Any:
    return await make_client(_service, host="127.0.0.1", port=port, timeout=30_000)
