"""The end of a connection whose client was answered and may still be sending.

A socket that is closed with bytes unread resets the connection, and the reset may take the
answer away from a client that has not read it yet.  So the end comes in stages: write no
more, drop what still comes, close when the client does (RFC 9112, section 9.6).
"""

from __future__ import annotations

import asyncio
from typing import Final

__all__ = ["part"]

_PARTING_SECONDS: Final = 1.0  # for a client to read its answer and close


class _Parting(asyncio.Protocol):
    """Drops what comes, in place of the protocol `behind`, which hears of the end.

    Its `eof_received` is asyncio's: a client that closes ends it.
    """

    def __init__(
        self, transport: asyncio.Transport, behind: asyncio.BaseProtocol
    ) -> None:
        self._behind = behind
        self._timer = asyncio.get_running_loop().call_later(
            _PARTING_SECONDS, transport.abort
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._behind.connection_lost(exc)

    def pause_writing(self) -> None:
        self._behind.pause_writing()

    def resume_writing(self) -> None:
        self._behind.resume_writing()


def part(transport: asyncio.Transport, behind: asyncio.BaseProtocol) -> None:
    """Close a connection so that its client gets what was written; 1 s at most.

    Args:
        transport: The connection; nothing more may be written.
        behind: Its protocol, which is given no more bytes, and is told of the end.
    """
    if transport.is_closing():
        return
    if not transport.can_write_eof():  # TLS, which parts in stages of its own
        transport.close()
        return
    transport.set_protocol(_Parting(transport, behind))
    transport.resume_reading()
    transport.write_eof()
