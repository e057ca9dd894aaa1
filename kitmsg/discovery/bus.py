"""The bus as a system of discovery: instances of a service that answer ``$SRV``.

    bus:payments

The address of an instance is its id, which its own subjects have.  Services of kitmsg say
when they come and go; others are asked every ``interval`` seconds.  There is nothing to
announce: a service that listens is found.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from kitmsg.bus import Bus
from kitmsg.discovery.address import Address
from kitmsg.discovery.directory import Directory
from kitmsg.discovery.instance import Instance
from kitmsg.discovery.subject import ServiceInfo
from kitmsg.message import check_name
from kitmsg.wire import Meta, direct_subject

__all__ = ["DIRECTLY", "BusSource", "instance_of", "is_direct", "source"]

DIRECTLY: Final = "direct"
"""Tag of an instance that has a subject of its own (`kitmsg.wire.direct_subject`).

Services of kitmsg have one; others do when their INFO lists an endpoint there.
"""


class BusSource:
    """Instances of one service on a bus.

    Args:
        bus: The bus.
        service: Name of the service.
        interval: Seconds between two rounds of asking.
    """

    def __init__(self, bus: Bus, service: str, *, interval: float = 2.0) -> None:
        self.name = f"bus:{service}"
        self._changed = asyncio.Event()
        self._bus = bus
        self._service = service
        self._interval = interval
        self._directory: Directory | None = None

    async def sets(self) -> AsyncGenerator[Sequence[Instance], None]:
        """Yield the instances after every change, and every round."""
        directory = self._directory or Directory(
            self._bus,
            name=self._service,
            interval=self._interval,
            on_change=self._changed.set,
        )
        self._directory = None
        try:
            await directory.start()
            while directory.error is None:
                self._changed.clear()
                yield [instance_of(info) for info in directory.instances]
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._interval):
                        await self._changed.wait()
            # Its memory is kept over a loss: services return one after the other.
            self._directory = directory
            raise directory.error
        finally:
            await directory.stop()


def source(address: Address, bus: Bus | None, /) -> BusSource:
    """Return the service that an address means; see `InstancerKind`."""
    address.expect("interval")
    check_name(address.path, "the service")
    if bus is None:
        raise address.wrong("there is no bus here to find it on")
    interval = address.number("interval", 2.0, least=0.01)
    return BusSource(bus, address.path, interval=interval)


def instance_of(info: ServiceInfo) -> Instance:
    """Return the instance that an INFO describes."""
    metadata = info.metadata or {}
    return Instance(
        address=info.id,
        zone=metadata.get("zone", ""),
        version=info.version,
        tags=(DIRECTLY,) if is_direct(info) else (),
        metadata=metadata,
    )


def is_direct(info: ServiceInfo) -> bool:
    """Return whether an instance has a subject of its own."""
    own = direct_subject(info.name, info.id, "")
    return any(
        Meta.SCHEMA in (endpoint.metadata or {}) or endpoint.subject.startswith(own)
        for endpoint in info.endpoints
    )
