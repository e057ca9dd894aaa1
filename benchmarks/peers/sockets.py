"""A load generator for HTTP over plain sockets, where there is no Go for a cheaper one.

The variant is the path to ask; the port is where.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from benchmarks.peers import Call, Setting

__all__ = ["connect"]

_BODY: Final = b'{"a":1,"b":2}'
_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length:"


class _Connection(asyncio.Protocol):
    """One keep-alive connection: one request at a time."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._received = b""
        self._answer: asyncio.Future[int] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # TCP's

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(_END)
        if not end:
            return
        _, _, rest = head.lower().partition(_LENGTH)
        if len(body) < int(rest.partition(b"\r\n")[0]) or self._answer is None:
            return
        self._received = b""
        if not head.startswith(b"HTTP/1.1 200") or b"3" not in body:
            text = f"asked for 1 + 2, got {head!r} {body!r}"
            self._answer.set_exception(ValueError(text))
        else:
            self._answer.set_result(3)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("the server hung up"))

    def ask(self) -> asyncio.Future[int]:
        assert self._transport is not None  # noqa: S101  # connected before
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(self._request)
        return self._answer


async def connect(setting: Setting) -> Call:
    """Return a call that takes an idle connection, or opens one."""
    head = (
        f"POST {setting.variant} HTTP/1.1\r\nHost: 127.0.0.1:{setting.port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(_BODY)}\r\n\r\n"
    )
    request = head.encode() + _BODY
    loop = asyncio.get_running_loop()
    idle: list[_Connection] = []

    async def call() -> int:
        if idle:
            connection = idle.pop()
        else:
            _, connection = await loop.create_connection(
                lambda: _Connection(request), "127.0.0.1", setting.port
            )
        result = await connection.ask()
        idle.append(connection)
        return result

    return call
