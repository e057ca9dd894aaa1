"""Admission: connections and calls are counted, and those beyond a limit refused.

A full gateway always answers the same: `ResourceExhausted`, come back in a second.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Final, Protocol

from kitmsg.errors import ResourceExhausted
from kitmsg_gateways.edge.proxies import node_address

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "RETRY_SECONDS",
    "Admission",
    "Connections",
    "Place",
    "admit",
    "full",
    "raise_file_limit",
]

RETRY_SECONDS: Final = 1.0
"""When a client that was refused may come back."""

_SPARE_FILES: Final = 256


def full(limit: int, what: str = "calls are in flight") -> ResourceExhausted:
    """Return the error that a full gateway answers with."""
    return ResourceExhausted(
        f"the gateway is full: {limit} {what}", retry_after=RETRY_SECONDS
    )


def admit(in_flight: int, limit: int) -> None:
    """Refuse a call that is one too many; it is among those in flight already.

    Raises:
        ResourceExhausted: The gateway is full.
    """
    if in_flight > limit:
        raise full(limit)


class InFlight(Protocol):
    """Counts what is in flight."""

    in_flight: int


class Admission:
    """Lets calls in, up to a limit, and knows when the last has left.

    Hot path: `enter` and `leave` run for each call.

    Args:
        counts: Its `in_flight` is kept here.
        limit: Most calls at once.
    """

    def __init__(self, counts: InFlight, limit: int) -> None:
        self._counts = counts
        self._limit = limit
        # Set while nothing is in flight; made when somebody waits for it.
        self._idle: asyncio.Event | None = None

    def enter(self, *, exempt: int = 0) -> None:
        """Count one call; it leaves even when it is refused.

        Args:
            exempt: Calls in flight that have a limit of their own.

        Raises:
            ResourceExhausted: The gateway is full.
        """
        self._counts.in_flight += 1
        admit(self._counts.in_flight - exempt, self._limit)

    def leave(self) -> None:
        """Count one call less."""
        self._counts.in_flight -= 1
        if self._idle is not None and not self._counts.in_flight:
            self._idle.set()

    async def drained(self, timeout: float) -> bool:
        """Wait until nothing is in flight; tell whether that was within `timeout`."""
        if not self._counts.in_flight:
            return True
        self._idle = asyncio.Event()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        return not self._counts.in_flight


class Connections:
    """Counts the connections there are.

    Args:
        most: How many there may be.
        per_address: How many from one address; 0 for no limit.
        is_exempt: Tells of an address whether it has no limit of its own: a proxy.

    Attributes:
        open: How many there are now.
        refused: How many were turned away.
        broken: How many ended in their TLS handshake.
    """

    def __init__(
        self,
        most: int,
        per_address: int = 0,
        is_exempt: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.open = 0
        self.refused = 0
        self.broken = 0
        self._most = most
        self._per_address = per_address
        self._is_exempt = is_exempt
        self._by_address: Counter[str] = Counter()

    def take(self, peer: str) -> Place | None:
        """Return a place for a connection from an address; None if there is none."""
        address = node_address(peer)
        if not self._per_address or not address or self._is_exempt(address):
            address = ""
        is_full = self.open >= self._most
        if is_full or (address and self._by_address[address] >= self._per_address):
            self.refused += 1
            return None
        self.open += 1
        if address:
            self._by_address[address] += 1
        return Place(self, address)

    def give_back(self, address: str) -> None:
        """Count one less; `Place.leave` calls it."""
        self.open -= 1
        if address:
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]


class Place:
    """One connection's place among those that are allowed."""

    __slots__ = ("_address", "_among")

    def __init__(self, among: Connections, address: str) -> None:
        self._among: Connections | None = among
        self._address = address

    def leave(self) -> None:
        """Give it back; once is enough, more does nothing."""
        if self._among is not None:
            self._among.give_back(self._address)
            self._among = None


def raise_file_limit(connections: int) -> int:
    """Let this process have a file for each connection, as far as it may.

    Returns:
        The connections that there can be.
    """
    try:
        import resource
    except ImportError:  # there is none on Windows, nor such a limit
        return connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return connections
    return max(1, min(connections, soft - _SPARE_FILES))
