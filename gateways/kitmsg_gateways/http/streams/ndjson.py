"""Items as lines of JSON: ``application/x-ndjson``, both ways.

After an error the last line is the problem; its ``type`` begins with
``urn:kitmsg:error:``, and it has a ``status``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from kitmsg_gateways.http.body import too_large

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["NDJSON", "NdJson", "lines"]

NDJSON: Final = "application/x-ndjson"


class NdJson:
    """A line for each item; a `kitmsg_gateways.http.streams.forms.Form`."""

    kind = "ndjson"
    media_type = NDJSON
    beat = b""
    is_resumed = False

    def start(self) -> bytes:
        """Return nothing."""
        return b""

    def item(self, data: bytes) -> bytes:
        """Return a line."""
        return line(data) + b"\n"

    def end(self) -> bytes:
        """Return nothing: the body ends."""
        return b""

    def pause(self) -> bytes:
        """Return nothing: clients do not come back by themselves."""
        return b""

    def failure(self, problem: bytes) -> bytes:
        """Return the problem as the last line."""
        return problem + b"\n"


def line(data: bytes) -> bytes:
    """Return JSON without line breaks."""
    if b"\n" in data or b"\r" in data:  # a foreign service may write as it likes
        return msgspec.json.format(data, indent=-1)
    return data


async def lines(chunks: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """Yield the lines of a body, without the empty ones.

    Args:
        chunks: The body as it comes.
        limit: Longest line, in bytes.

    Raises:
        Problem: 413; a line is longer.
    """
    rest = bytearray()
    async for chunk in chunks:
        whole = chunk.rfind(b"\n") + 1
        if not whole:
            rest += chunk
        else:
            rest += chunk[:whole]
            for one in bytes(rest).split(b"\n"):
                if len(one) > limit:
                    raise too_large(limit)
                if one and not one.isspace():
                    yield one
            rest = bytearray(chunk[whole:])
        if len(rest) > limit:
            raise too_large(limit)
    if rest and not rest.isspace():
        yield bytes(rest)
