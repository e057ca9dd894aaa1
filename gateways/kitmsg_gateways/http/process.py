"""`run`: one gateway in this process, from a connection to the bus until a signal."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING

import kitmsg
from kitmsg_gateways.http.server import GatewayServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kitmsg_gateways.http.options import GatewayOptions

__all__ = ["run_until_signal"]


async def run_until_signal(
    options: GatewayOptions,
    servers: str | None,
    on_ready: Callable[[GatewayServer], None] | None,
) -> None:
    """Serve until SIGTERM or SIGINT, see `run`; SIGHUP reads files again."""
    with _signals() as ended:
        async with kitmsg.connect(servers) as kit:
            server = GatewayServer(kit.bus, options)
            await server.start()
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGHUP, server.reload)
            try:
                if on_ready is not None:
                    on_ready(server)
                await ended.wait()
            finally:
                await server.stop()
                loop.remove_signal_handler(signal.SIGHUP)


@contextlib.contextmanager
def _signals() -> Iterator[asyncio.Event]:
    """Give an event that a signal to end sets."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, ended.set)
    try:
        yield ended
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
