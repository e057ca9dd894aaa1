"""The services on the bus as a table of a protocol's own, and what has just left.

A table is a snapshot, built anew after each change of what is on the bus.  For ten seconds
a gateway remembers what it served: so the moment between two lives of a service is
"unavailable, come back", and no "there is no such thing".
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from kitmsg.discovery.catalog import Catalog
from kitmsg.errors import Unavailable
from kitmsg.idl.numbers import misfit
from kitmsg_gateways.edge.admission import RETRY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kitmsg.bus import Bus
    from kitmsg.discovery.catalog import CatalogEndpoint
    from kitmsg.discovery.claims import SubjectPolicy

__all__ = ["REMEMBERED_SECONDS", "Catalogue", "Source", "left", "unavailable"]

REMEMBERED_SECONDS: Final = 10.0
"""How long what has left is remembered."""

_MOST_TABLES: Final = 64

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Source(Protocol[T_co]):
    """Makes routing tables: of the schemas on the bus, or of an interface of the user's."""

    def table(self, catalog: Catalog) -> T_co:
        """Return the routing table for the endpoints in `catalog` now."""
        ...


class Catalogue(Generic[T]):
    """Keeps a table of what is on the bus.

    Args:
        bus: Where to look.
        interval: Seconds between two rounds of asking who is there.
        build: Makes a table of the endpoints that are there.
        empty: The table until the first was built.
        changed: Called with the former table after `table` is another.
        policy: Where services may be called on their word.

    Attributes:
        table: What is served now.
        found: The services and endpoints it is made of.
        starting: Returns a sentence while services are being started, of which nobody knows
            the names yet; else "".
    """

    def __init__(
        self,
        bus: Bus,
        interval: float,
        build: Callable[[Catalog], T],
        empty: T,
        changed: Callable[[T], None],
        policy: SubjectPolicy | None = None,
    ) -> None:
        self.table = empty
        self.found = Catalog(
            bus, interval=interval, on_change=self.update, policy=policy
        )
        self.starting: Callable[[], str] = lambda: ""
        self._build = build
        self._changed = changed
        # Former tables and when they were replaced, oldest first.
        self._former: deque[tuple[float, T]] = deque(maxlen=_MOST_TABLES)

    @property
    def is_ready(self) -> bool:
        """Whether everybody was asked once, and the bus answered."""
        return self.found.is_ready

    async def start(self) -> None:
        """Look who is there, build the table, and go on watching until `stop`."""
        await self.found.start()
        if not self._former:  # nobody is there, so nothing has changed
            self.update()

    async def stop(self) -> None:
        """Watch no more; the table stays."""
        await self.found.stop()

    def update(self) -> None:
        """Build the table of what is known now."""
        before, self.table = self.table, self._build(self.found)
        self._former.append((asyncio.get_running_loop().time(), before))
        self._changed(before)

    def former(self) -> Iterator[T]:
        """Yield the tables of the last ten seconds, the newest first."""
        oldest = asyncio.get_running_loop().time() - REMEMBERED_SECONDS
        while self._former and self._former[0][0] < oldest:
            self._former.popleft()
        for _, table in reversed(self._former):
            yield table

    def why_unknown(self) -> str:
        """Return why what is not listed may be there all the same; "" if it is not."""
        if not self.is_ready:
            return "the bus has not told yet what is there"
        return self.starting()

    def why_gone(self, find: Callable[[T], CatalogEndpoint | None]) -> str:
        """Return why an endpoint cannot be called that was here, or may be here.

        Args:
            find: Looks for it in a table; None if it is not there.

        Returns:
            A sentence; "" if it was never there, or is gone for good.
        """
        if why := self.why_unknown():
            return why
        for table in self.former():
            endpoint = find(table)
            if endpoint is None:
                continue
            service = endpoint.service
            if service not in self.found.services:
                return left(service)
            there = ((one.service, one.name) for one in self.found.endpoints)
            return misfit(service) if (service, endpoint.name) in there else ""
        return ""


def left(service: str) -> str:
    """Return the sentence about a service that was here a moment ago."""
    return f"the last instance of {service!r} has just left the bus"


def unavailable(why: str) -> Unavailable:
    """Return the error for what will be back soon."""
    return Unavailable(why, retry_after=RETRY_SECONDS)
