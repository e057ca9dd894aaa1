"""Real systems of discovery, each started once when a test first wants it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg.bus.nats import NatsBus
from kitmsg.discovery.address import instancer
from kitmsg.discovery.backoff import Backoff
from tests.discovery.systems.consul import Consul
from tests.discovery.systems.etcd import Etcd
from tests.discovery.systems.eureka import Eureka
from tests.discovery.systems.knot import Knot, Names, Records
from tests.discovery.systems.nats import Nats
from tests.discovery.systems.zookeeper import ZooKeeper
from tests.discovery.watching import Watching

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from kitmsg.discovery.instancer import Instancer
    from tests.discovery.systems import System

_MAKERS: dict[str, Callable[[], Any]] = {
    "consul": Consul,
    "etcd": Etcd,
    "eureka": Eureka,
    "knot": Knot,
    "bus": Nats,
    "zk": ZooKeeper,
}
_started: dict[str, Any] = {}
_numbers = itertools.count(1)


def started(name: str) -> Any:
    """Return a system, as every test of this process shares it."""
    if name in {"dns", "srv"}:
        return (Names if name == "dns" else Records)(started("knot"))
    if name not in _started:
        _started[name] = _MAKERS[name]()
    return _started[name]


@pytest.fixture(scope="session", autouse=True)
def _systems_end() -> Iterator[None]:
    yield
    for system in _started.values():
        if isinstance(system, Nats):
            system.server.stop()
        else:
            system.program.kill()


@pytest.fixture
def service() -> str:
    """A name that no other test has."""
    return f"pay{next(_numbers)}"


@pytest.fixture
def system_name(request: pytest.FixtureRequest) -> str:
    """The system's name; tests give it."""
    name: str = request.param
    return name


@pytest.fixture
async def system(system_name: str) -> AsyncIterator[System]:
    """The system of a test, running when it begins and when it ends."""
    found = await asyncio.to_thread(started, system_name)
    yield found
    found.program.thaw()
    if isinstance(found, Nats):
        await found.close()


@pytest.fixture
async def opened(system: System) -> AsyncIterator[Callable[[str], Any]]:
    """Makes instancers of addresses, until the test ends."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(address: str) -> Instancer:
            bus = None
            if isinstance(system, Nats):
                bus = await NatsBus.connect(system.server.url)
                stack.push_async_callback(bus.close)
            made = instancer(address, bus=bus)
            made._backoff = Backoff(cap=1.0)  # type: ignore[attr-defined]  # no long waits
            stack.push_async_callback(made.close)
            return made

        yield make


@pytest.fixture
async def watch(opened: Callable[[str], Any]) -> Callable[[str], Any]:
    """Watches an address, until the test ends."""

    async def watching(address: str) -> Watching:
        return Watching(await opened(address))

    return watching
