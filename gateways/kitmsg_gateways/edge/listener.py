"""The listening sockets: connections are admitted before anything is read.

Connections are taken by hand instead of by `loop.create_server`, so that limits count them
before their TLS handshake, and so that several processes can share a socket fairly: each
takes one connection a turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from kitmsg_gateways.edge.admission import Connections, Place

__all__ = ["Listener", "bind"]

_log = logging.getLogger("kitmsg_gateways.edge")

_BACKLOG: Final = 4096
_AT_ONCE: Final = 64
_WAIT_SECONDS: Final = 0.5
_GOODBYE_SECONDS: Final = 3.0  # for the other side's end of TLS
_EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_NOT_HERE: Final = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


class Listener:
    """Takes connections from sockets, and closes them at the end.

    Args:
        sockets: Bound already.
        make: Makes the protocol of each connection, which gives its place back.
        connections: Counts and limits them.
        tls: Context for TLS; None for none.
        handshake_timeout: Seconds for a TLS handshake.
        is_shared: Whether other processes take from the same sockets.
        refusal: Bytes for a connection that there is no place for; none go into TLS.
    """

    def __init__(
        self,
        sockets: list[socket.socket],
        make: Callable[[Place], asyncio.BaseProtocol],
        connections: Connections,
        *,
        tls: ssl.SSLContext | None = None,
        handshake_timeout: float = 10.0,
        is_shared: bool = False,
        refusal: bytes = b"",
    ) -> None:
        self.sockets = sockets
        self._make = make
        self._connections = connections
        self._refusal = refusal
        self._tls = tls
        self._handshake: dict[str, Any] = (
            {
                "ssl": tls,
                "ssl_handshake_timeout": handshake_timeout,
                "ssl_shutdown_timeout": _GOODBYE_SECONDS,
            }
            if tls
            else {}
        )
        self._at_once = 1 if is_shared else _AT_ONCE
        self._loop = asyncio.get_running_loop()
        self._pauses: dict[socket.socket, asyncio.TimerHandle] = {}
        self._beginning: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Accept connections."""
        for sock in self.sockets:
            sock.setblocking(False)
            sock.listen(_BACKLOG)
            self._loop.add_reader(sock, self._accept, sock)

    async def stop(self) -> None:
        """Accept no more; what is in its TLS handshake is dropped."""
        for pause in self._pauses.values():
            pause.cancel()
        for sock in self.sockets:
            self._loop.remove_reader(sock)
            sock.close()
        self.sockets = []
        for task in self._beginning:
            task.cancel()
        await asyncio.gather(*self._beginning, return_exceptions=True)

    def _accept(self, sock: socket.socket) -> None:
        for _ in range(self._at_once):
            try:
                connection, peer = sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:
                if exc.errno not in _EXHAUSTED:
                    raise
                self._pause(sock, exc)
                return
            self._let_in(connection, peer)

    def _pause(self, sock: socket.socket, error: OSError) -> None:
        """Wait until others have closed files: the socket would stay ready for ever."""
        _log.error("cannot accept connections: %s", error.strerror)
        self._loop.remove_reader(sock)
        self._pauses[sock] = self._loop.call_later(_WAIT_SECONDS, self._go_on, sock)

    def _go_on(self, sock: socket.socket) -> None:
        del self._pauses[sock]
        self._loop.add_reader(sock, self._accept, sock)

    def _let_in(self, connection: socket.socket, peer: Any) -> None:
        connection.setblocking(False)
        place = self._connections.take(peer[0] if isinstance(peer, tuple) else "")
        if place is None:
            with contextlib.suppress(OSError):
                if self._tls is None and self._refusal:
                    connection.send(self._refusal)
                connection.close()
            return
        task = self._loop.create_task(self._begin(connection, place))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def _begin(self, connection: socket.socket, place: Place) -> None:
        protocol = self._make(place)
        try:
            await self._loop.connect_accepted_socket(
                lambda: protocol, connection, **self._handshake
            )
        except (OSError, TimeoutError) as exc:
            self._connections.broken += 1
            _log.debug("a connection ended in its handshake: %s", exc)
            place.leave()
            connection.close()
        except BaseException:
            place.leave()
            connection.close()
            raise


def bind(host: str, port: int, *, reuse_port: bool = False) -> list[socket.socket]:
    """Return sockets for every address that `host` stands for, not listening yet.

    Args:
        host: Name or address; "" for all of this machine's.
        port: Port; 0 for a free one, the same for all.
        reuse_port: Whether other processes may bind it too.

    Raises:
        OSError: None of them can be had.
    """
    found = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sockets: list[socket.socket] = []
    failed: OSError | None = None
    for family, address in dict.fromkeys((info[0], info[4]) for info in found):
        chosen = sockets[0].getsockname()[1] if sockets else port
        try:
            sockets.append(
                _bound(family, (address[0], chosen, *address[2:]), reuse_port)
            )
        except OSError as exc:
            failed = exc
            if exc.errno not in _NOT_HERE:
                break  # taken, or not allowed
    if sockets and (failed is None or failed.errno in _NOT_HERE):
        return sockets
    for sock in sockets:
        sock.close()
    why = failed.strerror if failed and failed.strerror else "there is no such address"
    number = failed.errno if failed else errno.EADDRNOTAVAIL
    raise OSError(number, f"cannot listen on {host or '*'}:{port}: {why.lower()}")


def _bound(family: int, address: Any, reuse_port: bool) -> socket.socket:
    # With the protocol said, asyncio switches Nagle's algorithm off.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock
