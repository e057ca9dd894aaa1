"""A worker's connection to the bus, in its parent's hands as well.

A process that is stopped, or whose event loop is blocked, keeps its connection, and the NATS
server goes on sending it its share of the calls.  It cannot leave by itself.  So a worker
gives its parent a duplicate of the socket each time it connects, and the parent shuts the
connection down when the worker shows no life: the server drops its subscriptions at once.
A worker that wakes finds the connection lost, and makes another.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kitmsg.bus import Bus

__all__ = ["Lender", "Lifeline"]

_CONNECTED = b"+"
_LOST = b"-"


class Lifeline:
    """The parent's end.

    Args:
        channel: Where the worker's descriptors come from: a datagram socket.
    """

    def __init__(self, channel: socket.socket) -> None:
        channel.setblocking(False)
        self._channel = channel
        # A duplicate of the worker's socket; None while it has no connection.  It must not
        # be kept for longer: the connection lives as long as anybody has it open.
        self._held: socket.socket | None = None
        asyncio.get_running_loop().add_reader(channel, self._read)

    def cut(self) -> bool:
        """Shut the connection down for both processes; False if there is none."""
        held, self._held = self._held, None
        if held is None:
            return False
        with held, contextlib.suppress(OSError):
            held.shutdown(socket.SHUT_RDWR)
        return True

    def close(self) -> None:
        """Let go: the worker has ended."""
        if self._channel.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._channel)
            self._channel.close()
        self._drop()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                _, descriptors, _, _ = socket.recv_fds(self._channel, 1, 1)
                self._drop()
                for descriptor in descriptors:
                    self._held = socket.socket(fileno=descriptor)

    def _drop(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None


class Lender:
    """The worker's end: gives each connection that `bus` makes, and takes lost ones back.

    Args:
        channel: Where to.
        bus: Any; one that is no connection to a server lends nothing.
    """

    def __init__(self, channel: socket.socket, bus: Bus) -> None:
        channel.setblocking(False)
        channel.set_inheritable(False)
        self._channel = channel
        self._bus = bus
        # Inode of the socket that the parent has; 0 for none.  A descriptor's number says
        # nothing: the next socket may get the same.
        self._lent = 0
        bus.watch(lambda _: self.refresh())
        self.refresh()

    def refresh(self) -> None:
        """See which connection there is; one may give way to another without a gap."""
        fileno: Any = getattr(self._bus, "fileno", None)
        descriptor = fileno() if fileno is not None and self._bus.is_connected else -1
        inode = os.fstat(descriptor).st_ino if descriptor >= 0 else 0
        if inode == self._lent:
            return
        with contextlib.suppress(OSError):  # the parent is gone, or has enough to read
            if inode:
                socket.send_fds(self._channel, [_CONNECTED], [descriptor])
            else:
                self._channel.send(_LOST)
            self._lent = inode
