"""Backends that send lines of text: batches within a datagram, and names made of labels."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

from kitmsg.metrics.window import MOST_VALUES, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kitmsg.metrics.address import Address
    from kitmsg.metrics.families import Family
    from kitmsg.metrics.senders import Sender
    from kitmsg.metrics.window import Point

__all__ = ["DATAGRAM_BYTES", "LineBackend", "datagram", "number", "path_name", "prefix"]

DATAGRAM_BYTES: Final = 1_432
"""Payload that one Ethernet frame carries, by IPv6 and through a tunnel too."""

_MOST_BYTES: Final = 65_000
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_\-]")


class LineBackend:
    """A `kitmsg.metrics.address.Backend` of lines.

    Args:
        encode: Makes the lines of a point; none for one that need not be sent.
        sender: Sends them.
        max_bytes: Longest batch; a longer line goes alone.
        values: Most values for the observations of a series between two flushes.
    """

    def __init__(
        self,
        encode: Callable[[Point], Iterable[str]],
        sender: Sender,
        *,
        max_bytes: int = DATAGRAM_BYTES,
        values: int = MOST_VALUES,
    ) -> None:
        self._encode = encode
        self._sender = sender
        self._max_bytes = max_bytes
        self._window = Window(values)

    async def push(self, families: Iterable[Family], /) -> None:
        """Send what has changed; other tasks run between two batches."""
        await self._sender.open()
        batch = bytearray()
        points: list[Point] = []  # all of whose lines are in `batch` or were sent
        for point in self._window.read(families):
            for line in self._encode(point):
                encoded = line.encode(errors="replace") + b"\n"
                if batch and len(batch) + len(encoded) > self._max_bytes:
                    await self._send(batch, points)
                batch += encoded
            points.append(point)
        if batch:
            await self._send(batch, points)

    async def close(self) -> None:
        """Close the connection."""
        await self._sender.close()

    async def _send(self, batch: bytearray, points: list[Point]) -> None:
        try:
            await self._sender.send(bytes(batch))
        except OSError:
            await self._sender.close()
            raise
        for point in points:
            self._window.commit(point)
        batch.clear()
        points.clear()
        await asyncio.sleep(0)


def number(value: float) -> str:
    """Return the shortest text of a number that is no lossy one."""
    return str(int(value)) if value == int(value) else repr(value)


def prefix(address: Address, default: str = "") -> str:
    """Return the ``prefix`` of an address, with a dot behind it; "{host}" is this host."""
    import socket

    host = _UNSAFE.sub("_", socket.gethostname())
    text = address.options.get("prefix", default).replace("{host}", host)
    return f"{text}." if text else ""


def datagram(address: Address) -> int:
    """Return the option ``packet``: the longest datagram, in bytes."""
    found = address.number("packet", DATAGRAM_BYTES, least=64, most=_MOST_BYTES)
    return int(found)


def path_name(name: str, labels: Iterable[tuple[str, str]]) -> str:
    """Return a name in a tree of dots: ``name.label.value.label.value``."""
    parts = [name]
    for label, value in labels:
        parts += (label, _UNSAFE.sub("_", value) or "none")
    return ".".join(parts)


def tag_name(name: str, labels: Iterable[tuple[str, str]]) -> str:
    """Return a name with Graphite's tags: ``name;label=value``."""
    # Graphite: no ";" or "~" in a value, and none that is empty.
    pairs = (f";{label}={_UNSAFE.sub('_', value) or 'none'}" for label, value in labels)
    return name + "".join(pairs)
