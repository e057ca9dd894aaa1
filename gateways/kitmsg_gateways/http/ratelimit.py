"""How often one client may ask.

A token bucket for each address, or for each principal; as many as fit into a bounded
memory, those that were used last.  Each process counts for itself.

Sources: RFC 6585 (status 429); draft-ietf-httpapi-ratelimit-headers-10 for ``RateLimit``
and ``RateLimit-Policy``.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
from typing import TYPE_CHECKING, Final

from kitmsg.errors import Code
from kitmsg.middleware.ratelimit import Buckets
from kitmsg_gateways.http.errors import Problem
from kitmsg_gateways.http.visit import PROBES

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg_gateways.http.visit import Visit

__all__ = ["RateLimit", "by_address", "by_principal"]

_TOO_MANY: Final = 429
_MOST_CLIENTS: Final = 100_000
_NETWORK_BITS: Final = 64


class RateLimit:
    """Refuses who asks too often; a `kitmsg_gateways.http.visit.Filter`.

    Args:
        name: What the limit counts by, as the answer's headers name it.
        per_second: Requests a second, on average.
        burst: Requests that may come at once after a quiet time; 0 for one second's
            worth, at least 1.
        key: Whom a request counts for; None for nobody.
    """

    def __init__(
        self,
        name: str,
        per_second: float,
        burst: int,
        key: Callable[[Visit], str | None],
    ) -> None:
        self._per_second = per_second
        self._burst = burst or max(1, int(per_second))
        self._key = key
        self._buckets = Buckets(per_second, self._burst, _MOST_CLIENTS)
        self._name = f'"{name}"'
        window = max(1, math.ceil(self._burst / per_second))
        self._policy = f"{self._name};q={self._burst};w={window}"

    async def __call__(self, visit: Visit) -> None:
        """Count a request, or refuse it.

        Raises:
            Problem: 429, with the time to wait.
        """
        who = None if visit.path in PROBES else self._key(visit)
        if who is None:
            return
        now = asyncio.get_running_loop().time()
        delay = self._buckets.delay(who, now)
        if not delay:
            self._buckets.take(who, now)
        self._tell(visit, self._buckets.fill_time(who, now))
        if delay:
            raise Problem(
                _TOO_MANY,
                Code.RESOURCE_EXHAUSTED,
                f"more than {self._per_second:g} requests a second; come back later",
                retry_after=delay,
            )

    def _tell(self, visit: Visit, fill_time: float) -> None:
        """Say in the answer what is left.

        Args:
            visit: The request.
            fill_time: Seconds until the bucket is full again.
        """
        left = max(0, math.floor(self._burst - fill_time * self._per_second + 1e-6))
        state = f"{self._name};r={left};t={math.ceil(fill_time)}"
        said = visit.headers or {}
        policies = filter(None, [said.get("RateLimit-Policy"), self._policy])
        states = filter(None, [said.get("RateLimit"), state])
        visit.headers = {
            **said,
            "RateLimit-Policy": ", ".join(policies),
            "RateLimit": ", ".join(states),
        }


def by_address(visit: Visit) -> str | None:
    """Return the client's address; of IPv6 the network, as one client has all of it."""
    address = visit.address
    if ":" not in address:
        return address
    number = int(ipaddress.IPv6Address(address.partition("%")[0]))
    return f"{number >> _NETWORK_BITS:x}"


def by_principal(visit: Visit) -> str | None:
    """Return who asks; None when nobody knows."""
    who = visit.principal
    return None if who is None else f"{who.method} {who.name}"
