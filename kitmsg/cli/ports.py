"""Ports of this machine: which one is free."""

from __future__ import annotations

import socket
from typing import Final

from kitmsg.errors import FailedPrecondition

__all__ = ["free_port"]

_TRIES: Final = 100


def free_port(wanted: int, host: str = "127.0.0.1") -> int:
    """Return `wanted` if it is free, else the next one that is.

    Raises:
        FailedPrecondition: Nor are the next hundred, or they are not allowed.
    """
    problem: OSError | None = None
    for port in range(wanted, wanted + _TRIES):
        try:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
                return int(probe.getsockname()[1])
        except (OSError, OverflowError) as exc:
            problem = exc if isinstance(exc, OSError) else problem
    reason = problem.strerror if problem else "no such port"
    raise FailedPrecondition(f"no port from {wanted} on can be used: {reason}")
