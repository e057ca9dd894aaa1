"""A client that goes on sending though it has its answer."""

from __future__ import annotations

import asyncio
import socket

__all__ = ["keeps_sending"]


async def keeps_sending(port: int, begin: bytes, more: bytes) -> bytes:
    """Send `begin`, and `more` ten times once an answer came; return all that came.

    Raises:
        ConnectionError: The connection was reset before the client had read.
    """
    loop = asyncio.get_running_loop()
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.setblocking(False)
        client.sendall(begin)
        async with asyncio.timeout(10):
            while not _has_come(client):  # no event tells
                await asyncio.sleep(0.01)
            for _ in range(10):
                await loop.sock_sendall(client, more)
                await asyncio.sleep(0.02)  # a reset would be here by then
            answer = b""
            while part := await loop.sock_recv(client, 65536):
                answer += part
            return answer


def _has_come(client: socket.socket) -> bool:
    try:
        return bool(client.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
