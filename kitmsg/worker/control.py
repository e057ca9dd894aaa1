"""Protocol between a parent and its worker: one JSON object per line.

The worker gets its orders on its standard input, once; then both use a socket pair.

    worker -> parent   {"event": "beat", "connected": true, "draining": false, "stuck": []}
                       {"event": "ready", "endpoints": [...], "drain_timeout": 25.0}
                       {"event": "modules", "folders": [...]}
                       {"event": "failed", "why": "...", "stack": "..."}
                       {"event": "report", "id": 7, ...}
                       {"event": "ended"}
    parent -> worker   {"ask": "report", "id": 7}

A line from the worker that is not JSON is part of a stack dump: `faulthandler` writes
there, since it is the one thing that a stuck process can still do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from kitmsg.worker.settings import Settings  # msgspec reads it

if TYPE_CHECKING:
    import asyncio

__all__ = [
    "BEAT_SECONDS",
    "EXIT_CONFIG",
    "EXIT_DENIED",
    "EXIT_FAILED",
    "MAX_LINE",
    "GatewayOrders",
    "Orders",
    "read_line",
    "write_line",
]

BEAT_SECONDS: Final = 0.5
"""Time between two heartbeats of a worker's event loop."""

EXIT_FAILED: Final = 1
"""Exit code of a worker that a restart may help."""

EXIT_CONFIG: Final = 2
"""Exit code of a worker that fails in the same way however often it is started."""

EXIT_DENIED: Final = 6
"""Exit code of a worker that the bus does not know, or does not let in."""

MAX_LINE: Final = 16 << 20


class GatewayOrders(msgspec.Struct, frozen=True, kw_only=True):
    """Orders of a worker that is a gateway, or an upstream.

    Attributes:
        kind: Name of the plugin, such as ``http``.
        options: The fields of its `GatewayOptions`, or `UpstreamOptions`.
        sockets: Descriptors of the listening sockets that the workers share.
        upstream: Name on the bus of an upstream; "" for a gateway.
        addresses: Where the upstream's server is.
    """

    kind: str
    options: dict[str, Any]
    sockets: tuple[int, ...] = ()
    upstream: str = ""
    addresses: tuple[str, ...] = ()


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """Orders of a worker.

    Attributes:
        targets: What to serve.
        settings: How.
        index: Number of the worker, from 1.
        restarts: How often that worker was started again after it died.
        parent: Process id of the parent.
        gateway: Which gateway to be; None for a worker that serves `targets`.
        lifeline: Descriptor of the socket for `kitmsg.worker.lifeline`.
        tells_modules: Whether to say where its modules come from.
    """

    targets: tuple[str, ...]
    settings: Settings
    index: int
    parent: int
    restarts: int = 0
    gateway: GatewayOrders | None = None
    lifeline: int = -1
    tells_modules: bool = False


def write_line(writer: asyncio.StreamWriter, event: dict[str, Any]) -> None:
    """Send one object; nothing happens when the other side is gone."""
    if not writer.is_closing():
        writer.write(msgspec.json.encode(event) + b"\n")


async def read_line(reader: asyncio.StreamReader) -> dict[str, Any] | str | None:
    """Return the next object; text when the line is none; None at the end."""
    try:
        line = await reader.readline()
    except (ConnectionError, ValueError):
        return None
    if not line:
        return None
    try:
        event = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return line.decode(errors="replace")
    return event if isinstance(event, dict) else str(event)
