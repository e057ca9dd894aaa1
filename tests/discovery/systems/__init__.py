"""Real systems of discovery, as tests start, stop, freeze and fill them.

program.py    a server process: start, kill, freeze
knot.py       Knot DNS, for A and SRV records
consul.py etcd.py zookeeper.py eureka.py    the registries
nats.py       a NATS server with services of kitmsg
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["Registry", "Runs", "System"]


class Runs(Protocol):
    """A server; see `tests.discovery.systems.program.Program`."""

    def start(self) -> None: ...

    def kill(self) -> None: ...

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...


class System(Protocol):
    """A system whose contents a test decides."""

    @property
    def program(self) -> Runs:
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


class Registry(System, Protocol):
    """A system that instances announce themselves in."""

    @property
    def port(self) -> int:
        """Of its server."""
        ...

    def registration(self, service: str, port: int | None = None) -> str:
        """Address to announce instances at, whose entries expire soon."""
        ...

    async def forget(self, service: str) -> None:
        """Delete all instances of a service."""
        ...
