"""Round robin over the addresses of an instancer, past those that cannot be reached."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final, TypeVar

from kitmsg.discovery.fixed import FixedInstancer, fixed
from kitmsg.discovery.instancer import Instancer
from kitmsg.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from kitmsg.discovery.address import Addresses
    from kitmsg.discovery.instance import Instance

__all__ = ["CannotConnect", "RoundRobin"]

_log = logging.getLogger("kitmsg_gateways.upstream")

T = TypeVar("T")

AVOID_SECONDS: Final = 1.0
"""How long an address is avoided after it could not be reached."""


class CannotConnect(Exception):
    """Nothing of a call was sent, so another instance may have it.

    Raised by a protocol's `Transport`; callers never see it.
    """


class RoundRobin:
    """Picks the addresses of an instancer in turn.

    Args:
        name: Name of the service, for messages.
        source: An instancer, an address, or a list of addresses.
        gone: Called with each address that the instancer no longer names, so that its
            connection can be closed.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        name: str,
        source: Addresses,
        *,
        gone: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.addresses: tuple[str, ...] = ()
        self._gone = gone
        self._clock = clock
        self._next = 0
        self._avoided: dict[str, float] = {}
        self._source = source if isinstance(source, Instancer) else fixed(source)
        self._unwatch: Callable[[], None] | None = None
        # An upstream may be made before there is a loop: others are watched when needed.
        if isinstance(self._source, FixedInstancer):
            self._watch()

    def _watch(self) -> None:
        if self._unwatch is None:
            self._unwatch = self._source.watch(self._changed)

    def _changed(self, instances: tuple[Instance, ...]) -> None:
        addresses = dict.fromkeys(each.address for each in instances)
        before, self.addresses = self.addresses, tuple(addresses)
        for address in before:
            if address not in self.addresses:
                self._avoided.pop(address, None)
                if self._gone is not None:
                    self._gone(address)

    def pick(self, tried: Collection[str] = ()) -> str:
        """Return the next address that is not in `tried`.

        One that just failed comes only when there is no other.

        Raises:
            Unavailable: There is none.
        """
        self._watch()
        left = [address for address in self.addresses if address not in tried]
        if not left:
            # Its error is not for callers: it names the machines of the system.
            raise Unavailable(
                f"{self.name} has no instance that can be reached"
            ) from self._source.state.error
        now = self._clock()
        good = [a for a in left if self._avoided.get(a, now) <= now] or left
        self._next += 1
        return good[self._next % len(good)]

    def failed(self, address: str) -> None:
        """Avoid `address` for a moment: it could not be reached."""
        self._avoided[address] = self._clock() + AVOID_SECONDS

    async def through(
        self, send: Callable[[str], Awaitable[T]], endpoint: str = ""
    ) -> T:
        """Return the result of `send` with an address, the next one if it cannot connect.

        Each address is tried once at most.

        Args:
            send: Makes the call.
            endpoint: Dotted name of the endpoint that makes it, for `KitError.refused`.

        Raises:
            Unavailable: None can be reached, so the work never began.
        """
        tried: list[str] = []
        self._watch()
        if not self.addresses:
            await self._source.settled()  # within the time its system has to answer
        while True:
            try:
                address = self.pick(tried)
            except Unavailable as exc:
                raise exc.before(endpoint) from exc.__cause__
            try:
                return await send(address)
            except CannotConnect as exc:
                self.failed(address)
                tried.append(address)
                _log.warning("%s: cannot connect to %s: %s", self.name, address, exc)

    async def close(self) -> None:
        """Stop watching, until the next `pick`; connections are their maker's to close."""
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
        await self._source.close()
