"""Real systems of discovery, as tests start, stop, freeze and fill them.

program.py    a server process: start, kill, freeze
knot.py       Knot DNS, for A and SRV records
consul.py etcd.py zookeeper.py eureka.py    the registries
nats.py       a NATS server with services of kitmsg
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tests.discovery.systems.program import Program

__all__ = ["System"]


class System(Protocol):
    """A system whose contents a test decides."""

    @property
    def program(self) -> Program:
        """Its process."""
        ...

    def address(self, service: str, port: int | None = None) -> str:
        """Address of a service, with options that make trouble show soon.

        `port` is another way to the server.
        """
        ...

    async def put(self, service: str, count: int) -> set[str]:
        """Make it have `count` instances of a service, no others; return their addresses.

        It uses the system's own interface, nothing of ours.
        """
        ...
