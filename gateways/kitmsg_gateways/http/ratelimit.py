"""Rate limits, and the headers that tell of them.

Sources: RFC 6585 (status 429); draft-ietf-httpapi-ratelimit-headers-10 for ``RateLimit``
and ``RateLimit-Policy``.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from kitmsg_gateways.edge.limits import address_key, principal_key
from kitmsg_gateways.http.visit import PROBES

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg_gateways.edge.limits import RateLimit
    from kitmsg_gateways.http.visit import Visit

__all__ = ["Limited", "by_address", "by_principal"]


class Limited:
    """Refuses who asks too often; a `kitmsg_gateways.http.visit.Filter`.

    Args:
        name: What the limit counts by, as the answer's headers name it.
        limit: The limit.
        key: Whom a request counts for; None for nobody.
    """

    def __init__(
        self, name: str, limit: RateLimit, key: Callable[[Visit], str | None]
    ) -> None:
        self._limit = limit
        self._key = key
        self._name = f'"{name}"'
        self._policy = f"{self._name};q={limit.burst};w={limit.window}"

    async def __call__(self, visit: Visit) -> None:
        """Count a request, or refuse it.

        Raises:
            ResourceExhausted: With the time to wait.
        """
        client = None if visit.path in PROBES else self._key(visit)
        if client is None:
            return
        now = asyncio.get_running_loop().time()
        delay = self._limit.take(client, now)
        left, fill_time = self._limit.left(client, now)
        state = f"{self._name};r={left};t={math.ceil(fill_time)}"
        said = visit.headers or {}
        policies = filter(None, [said.get("RateLimit-Policy"), self._policy])
        states = filter(None, [said.get("RateLimit"), state])
        visit.headers = {
            **said,
            "RateLimit-Policy": ", ".join(policies),
            "RateLimit": ", ".join(states),
        }
        if delay:
            raise self._limit.refusal(delay)


def by_address(visit: Visit) -> str | None:
    """Return the client's address; of IPv6 the network, as one client has all of it."""
    return address_key(visit.address)


def by_principal(visit: Visit) -> str | None:
    """Return who asks; None when nobody knows."""
    return principal_key(visit.principal)
