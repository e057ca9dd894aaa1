"""Items that are bytes, one after the other: files, both ways.

On the bus they are JSON as any item is, which is base64; where one item ends and the next
begins is not kept.  After an error in the middle the connection is broken off, so that
nobody takes half a file for a whole one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from kitmsg.codec import DECODE_ERRORS, RAW
from kitmsg.errors import DataLoss

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["CHUNK", "OCTETS", "Octets", "chunks", "plain"]

OCTETS: Final = RAW.content_type

CHUNK: Final = 64 << 10
"""Most bytes of one item that a body is cut to."""

_QUOTES: Final = 4  # and what base64 fills up with

_decode: Final = msgspec.json.Decoder(bytes).decode
_encode: Final = msgspec.json.Encoder().encode


class Octets:
    """The bytes themselves; a `kitmsg_gateways.http.streams.forms.Form`."""

    kind = "bytes"
    media_type = OCTETS
    beat = b""
    is_resumed = False

    def start(self) -> bytes:
        """Return nothing."""
        return b""

    def item(self, data: bytes) -> bytes:
        """Return the bytes that an item is.

        Raises:
            DataLoss: It is none.
        """
        return plain(data)

    def end(self) -> bytes:
        """Return nothing: the body ends."""
        return b""

    def pause(self) -> bytes:
        """Return nothing: there is no room for a word."""
        return b""

    def failure(self, problem: bytes) -> None:
        """Return None: the body is broken off."""


def plain(data: bytes) -> bytes:
    """Return the bytes that a JSON value stands for.

    Raises:
        DataLoss: It is no base64.
    """
    try:
        return _decode(data)
    except DECODE_ERRORS as exc:
        raise DataLoss(f"what should be bytes is none: {exc}") from exc


async def chunks(body: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """Yield a body as items of bytes, in JSON.

    Args:
        body: As it comes.
        limit: Most bytes of an item, in JSON.
    """
    size = max(1, min(CHUNK, limit * 3 // 4 - _QUOTES))
    async for chunk in body:
        for at in range(0, len(chunk), size):
            yield _encode(chunk[at : at + size])
