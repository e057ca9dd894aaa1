"""The port: gRPC's core opens its own sockets, and does not tell why it cannot."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kitmsg_gateways.grpc.options import GatewayOptions

__all__ = ["check_free", "listen"]


def listen(options: GatewayOptions) -> list[socket.socket]:
    """Return a socket that keeps the port for several processes.

    It is bound and does not listen: the system shares connections out among those that do.

    Raises:
        OSError: The address cannot be had; ``errno.EADDRINUSE`` when it is taken.
    """
    found = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)
    family, kind, proto, _, where = found[0]
    if not options.reuse_port:  # calls would end at another program that shares it
        _probe(family, kind, proto, where)
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(where)
    except BaseException:
        sock.close()
        raise
    return [sock]


def check_free(options: GatewayOptions) -> None:
    """Refuse an address that cannot be had.

    A name may stand for several: one of them is enough, if none is somebody else's.

    Raises:
        OSError: It cannot; ``errno.EADDRINUSE`` when it is taken.
    """
    found = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)
    problems: list[OSError] = []
    for family, kind, proto, _, where in found:
        try:
            _probe(family, kind, proto, where, reuse_port=options.reuse_port)
        except OSError as exc:
            problems.append(exc)
    taken = [exc for exc in problems if exc.errno == errno.EADDRINUSE]
    if taken or len(problems) == len(found):
        raise (taken or problems)[0]


def _probe(
    family: int, kind: int, proto: int, where: Any, *, reuse_port: bool = False
) -> None:
    with socket.socket(family, kind, proto) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        probe.bind(where)
