"""Ports for servers that must be told theirs before they start."""

from __future__ import annotations

import secrets
import socket

__all__ = ["free_port", "free_ports"]

# Below those that the system gives to connections and to port 0 (32768 by default), which
# could take one before its server starts.
_FIRST, _COUNT = 10_000, 22_000


def free_port() -> int:
    """Return a port that nobody has, for TCP and UDP, nor is likely to be given meanwhile."""
    while True:
        port = _FIRST + secrets.randbelow(_COUNT)
        if all(map(_is_free, (port, port), (socket.SOCK_STREAM, socket.SOCK_DGRAM))):
            return port


def free_ports(count: int) -> list[int]:
    """Return so many different ones."""
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return list(found)


def _is_free(port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(type=kind) as sock:
        try:
            sock.bind(("", port))
        except OSError:
            return False
    return True
