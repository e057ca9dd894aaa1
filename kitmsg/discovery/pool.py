"""A bus whose servers are found in a system of discovery: ``srv://_nats._tcp.example``.

The servers of the first set are connected to, and those of later sets are the ones that the
bus turns to when it loses its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from kitmsg.bus.nats import NatsBus
from kitmsg.discovery.address import discovered_at, is_discovered, parse_address
from kitmsg.discovery.instance import Instance
from kitmsg.discovery.instancer import Instancer
from kitmsg.errors import InvalidArgument, Unavailable

__all__ = ["connect_bus"]

_PORT: Final = 4222


async def connect_bus(
    servers: str | Sequence[str], *, wait: bool = False, **options: Any
) -> NatsBus:
    """Return a bus at `servers`, or at those that a system of discovery names.

    Args:
        servers: As of `NatsBus.connect`, or one address with a scheme of discovery; a user
            in it is the bus's.
        wait: Wait for the system, and for a server.
        options: As of `NatsBus.connect`.

    Raises:
        Unavailable: The system or no server answers.
        Unauthenticated: A server answers and refuses.
        InvalidArgument: An address or an option is wrong.
    """
    given = [servers] if isinstance(servers, str) else list(servers)
    if not any(map(is_discovered, ",".join(given).split(","))):
        return await NatsBus.connect(servers, wait=wait, **options)
    if len(given) > 1 or not is_discovered(given[0]):
        raise InvalidArgument("an address of discovery stands alone", field="servers")
    try:
        address = parse_address(given[0])
        instancer = discovered_at(replace(address, user="", password=""))
    except ValueError as exc:
        raise InvalidArgument(str(exc), field="servers") from exc
    if address.user:
        options = {"user": address.user, "password": address.password, **options}
    return await _connected(instancer, options, wait=wait)


async def _connected(
    instancer: Instancer, options: dict[str, Any], *, wait: bool
) -> NatsBus:
    changed = asyncio.Event()
    bus: NatsBus | None = None

    def tell(instances: tuple[Instance, ...]) -> None:
        changed.set()
        if bus is not None and instances:
            bus.set_servers(_urls(instances))

    instancer.watch(tell)
    try:
        if wait:
            while not instancer.state.instances:
                changed.clear()
                await changed.wait()
        urls = _urls(await _named(instancer))
        bus = await NatsBus.connect(urls, wait=wait, **options)
    except BaseException:
        await instancer.close()
        raise
    bus.on_close(instancer.close)
    tell(instancer.state.instances)
    return bus


async def _named(instancer: Instancer) -> tuple[Instance, ...]:
    state = await instancer.settled()
    if not state.instances:
        raise state.error or Unavailable(f"{instancer.name} names no NATS server")
    return state.instances


def _urls(instances: tuple[Instance, ...]) -> list[str]:
    return [f"nats://{each.address}" for each in instances]
