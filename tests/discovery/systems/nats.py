"""A NATS server with services of kitmsg, each instance on a connection of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitmsg import Kit, Service, endpoint
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.bus.nats import NatsBus

if TYPE_CHECKING:
    from tests.discovery.systems import Runs

__all__ = ["Nats"]


class Nats:
    """The server, as its own process."""

    def __init__(self) -> None:
        self.server = EmbeddedServer()
        self.server.start()
        self._buses: dict[str, list[tuple[NatsBus, str]]] = {}

    @property
    def program(self) -> Runs:
        """Itself."""
        return self

    def start(self) -> None:
        """Start it after `kill`."""
        self.server.restart()

    def kill(self) -> None:
        """End it as a crash would."""
        self.server.kill()

    def freeze(self) -> None:
        """Stop it: connections stay open and silent."""
        self.server.pause()

    def thaw(self) -> None:
        """End what `freeze` began."""
        self.server.resume()

    def address(self, service: str, port: int | None = None) -> str:
        return f"bus:{service}?interval=0.3"

    async def put(self, service: str, count: int) -> set[str]:
        held = self._buses.setdefault(service, [])
        while len(held) > count:
            bus, _ = held.pop()
            await bus.close()
        while len(held) < count:
            bus = await NatsBus.connect(self.server.url)
            one = type("Here", (Service,), {"name": service, "here": endpoint(_here)})
            serving = await Kit(bus).serve(one())
            held.append((bus, serving.id))
        return {id_ for _, id_ in held}

    async def close(self) -> None:
        """Close all connections."""
        for service in self._buses:
            await self.put(service, 0)


async def _here(self: Service) -> bool:
    return True
