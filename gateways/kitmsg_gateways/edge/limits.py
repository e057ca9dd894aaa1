"""Rate limits of clients.

A token bucket for each address, or for each principal; as many as fit into a bounded
memory, those that were used last.  Each process counts for itself.
"""

from __future__ import annotations

import ipaddress
import math
from typing import TYPE_CHECKING, Final

from kitmsg.errors import ResourceExhausted
from kitmsg.middleware.ratelimit import Buckets

if TYPE_CHECKING:
    from kitmsg.auth import Principal

__all__ = ["RateLimit", "address_key", "principal_key"]

_MOST_CLIENTS: Final = 100_000
_NETWORK_BITS: Final = 64


class RateLimit:
    """Rate limit of calls a second, for each client.

    Args:
        per_second: Calls a second, on average.
        burst: Calls that may come at once after a quiet time; 0 for one second's worth,
            at least 1.

    Attributes:
        burst: As it is.
        window: Seconds that an empty bucket takes to fill, at least 1.
    """

    def __init__(self, per_second: float, burst: int) -> None:
        self.burst = burst or max(1, int(per_second))
        self.window = max(1, math.ceil(self.burst / per_second))
        self._per_second = per_second
        self._buckets = Buckets(per_second, self.burst, _MOST_CLIENTS)

    @classmethod
    def of(cls, per_second: float, burst: int) -> RateLimit | None:
        """Return the limit of `per_second` calls; None where that is 0."""
        return cls(per_second, burst) if per_second else None

    def take(self, client: str, now: float) -> float:
        """Count a call; return 0, or the seconds to wait when it is one too many."""
        delay = self._buckets.delay(client, now)
        if not delay:
            self._buckets.take(client, now)
        return delay

    def left(self, client: str, now: float) -> tuple[int, float]:
        """Return the calls that may come now, and the seconds until all may again."""
        fill_time = self._buckets.fill_time(client, now)
        left = math.floor(self.burst - fill_time * self._per_second + 1e-6)
        return max(0, left), fill_time

    def refusal(self, delay: float) -> ResourceExhausted:
        """Return the error of a call that is one too many."""
        return ResourceExhausted(
            f"more than {self._per_second:g} requests a second; come back later",
            retry_after=delay,
        )

    def check(self, client: str | None, now: float) -> None:
        """Count a call of a client; None for nobody.

        Raises:
            ResourceExhausted: It is one too many; with the time to wait.
        """
        if client is not None and (delay := self.take(client, now)):
            raise self.refusal(delay)


def address_key(address: str) -> str:
    """Return whom an address counts for: of IPv6 the network, as one client has it all."""
    if ":" not in address:
        return address
    try:
        number = int(ipaddress.IPv6Address(address.partition("%")[0]))
    except ValueError:  # such as the path of a local socket
        return address
    return f"{number >> _NETWORK_BITS:x}"


def principal_key(principal: Principal | None) -> str | None:
    """Return whom a principal counts for; None when nobody knows who calls."""
    return None if principal is None else f"{principal.method} {principal.name}"
