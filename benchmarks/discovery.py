"""Discovery: how soon a new instance is called, what a thousand cost, and a lost registry.

The registries are the real ones, as the tests start them; one that is not installed is left
out with a sentence.  Calls begin 500 times a second and are balanced as an upstream's are; a
new instance announces itself as a gateway does, and the time is until its first call.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import tracemalloc
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any, Final

from benchmarks import bounds
from benchmarks.bounds import report
from benchmarks.figures.offered import offer, run
from benchmarks.fleet import Process, free_port, python_peer
from benchmarks.peers import Setting
from benchmarks.peers.crowd import COUNT, NAME
from benchmarks.peers.kit import Calculator
from kitmsg import Kit, connect
from kitmsg.balance import Endpointer, balanced
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.context import Context
from kitmsg.discovery.address import instancer
from kitmsg.discovery.instance import Instance
from kitmsg.discovery.registrar import registrar
from kitmsg_gateways.grpc.upstream import Upstream
from tests.discovery.systems.consul import Consul
from tests.discovery.systems.etcd import Etcd
from tests.discovery.systems.zookeeper import ZooKeeper

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Callable

    from kitmsg.discovery.instancer import Instancer
    from kitmsg.endpoints import Endpoint

__all__ = ["measure", "report", "without"]

_SYSTEMS: Final[dict[str, Callable[[], Any]]] = {
    "consul": Consul,
    "etcd": Etcd,
    "zk": ZooKeeper,
}
_TIMES: Final = 20
_RATE: Final = 500.0  # calls a second
_REST_SECONDS: Final = 10.0
_LOST_SECONDS: Final = 60.0
_LOST_QUICKLY: Final = 5.0
_MEGABYTE: Final = 1e6


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the figures, each with its bound; the times are over 20 instances."""
    seconds = _LOST_QUICKLY if options.quick else _LOST_SECONDS
    rows = [_first_call("the bus", run(_on_the_bus()))]
    rows += _thousand("the bus", _thousand_on_the_bus)
    for name, make in _SYSTEMS.items():
        try:
            system = make()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            print(f"discovery: {name} is left out: {error}", file=sys.stderr)
            continue
        try:
            rows.append(_first_call(name, run(_registered(system))))
            if name == "consul":
                rows += _thousand(name, lambda system=system: _thousand_in(system))
            failed = run(without(system, seconds))
            what = f"{name} stopped for {seconds:g} s: failed calls"
            rows.append(bounds.row(what, [failed], 0))
        finally:
            system.program.kill()
    return rows


def _first_call(where: str, seconds: list[float]) -> dict[str, Any]:
    row = bounds.row(
        f"new instance on {where}: seconds until its first call", seconds, 0.2
    )
    return {**row, "times": len(seconds)}


def _thousand(where: str, cost: Callable[[], Any]) -> list[dict[str, Any]]:
    megabytes, share = run(cost())
    what = f"{COUNT:,} instances on {where}"
    return [
        bounds.row(f"{what}: memory, MB", [megabytes], 20.0),
        bounds.row(f"{what}: CPU at rest, %", [share * 100], 1.0),
    ]


class _Called:
    """When instances had their first calls; `node` makes the endpoint of one."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}
        self.changed = asyncio.Event()

    def node(self, instance: Instance) -> Endpoint[Any, Any]:
        """Return an endpoint that notes that it was called."""

        async def call(_ctx: Context, _request: Any) -> None:
            if instance.address not in self.at:
                self.at[instance.address] = perf_counter()
                self.changed.set()
            await asyncio.sleep(0.002)

        return call

    async def first(self, address: str) -> float:
        """Wait for the first call of an instance; returns when it was."""
        async with asyncio.timeout(30):
            while address not in self.at:
                self.changed.clear()
                await self.changed.wait()
        return self.at[address]


@contextlib.asynccontextmanager
async def _loaded(source: Instancer) -> AsyncIterator[_Called]:
    """Call the instances that `source` tells of, all the time."""
    called, ended = _Called(), asyncio.Event()
    endpointer = Endpointer(source, called.node)
    call = balanced(endpointer)
    load = asyncio.create_task(offer(lambda _: call(Context(), None), _RATE, ended))
    try:
        yield called
    finally:
        ended.set()
        await load
        await endpointer.close()
        await source.close()


async def _registered(system: Any) -> list[float]:
    """Return the seconds from announcing to the first call, of each new instance."""
    where = system.address("pay").partition("?")[0]
    to = system.registration("pay")
    found = []
    async with contextlib.AsyncExitStack() as stack:
        for number in range(2):  # those that are there before
            old = registrar(to, Instance(address=f"10.0.0.1:{8000 + number}"))
            await old.start()
            stack.push_async_callback(old.stop)
            await old.announced()
        async with _loaded(instancer(where)) as called:
            await called.first("10.0.0.1:8000")
            for number in range(_TIMES):
                address = f"10.0.0.2:{8000 + number}"
                new = registrar(to, Instance(address=address))
                start = perf_counter()
                await new.start()
                found.append(await called.first(address) - start)
                await new.stop()
    return found


async def _on_the_bus() -> list[float]:
    """Return the seconds from serving to the first call, of each new instance."""
    found = []
    async with contextlib.AsyncExitStack() as stack:
        server = stack.enter_context(EmbeddedServer(jetstream=False))
        kit = await stack.enter_async_context(connect(server.url))
        first = await kit.serve(Calculator())
        source = instancer(f"bus:{first.info.name}", bus=kit.bus)
        called = await stack.enter_async_context(_loaded(source))
        await called.first(first.id)
        for _ in range(_TIMES):
            other: Kit
            async with connect(server.url) as other:
                start = perf_counter()
                host = await other.serve(Calculator())
                found.append(await called.first(host.id) - start)
    return found


async def _thousand_on_the_bus() -> tuple[float, float]:
    with EmbeddedServer(jetstream=False) as server:
        crowd = Process(
            python_peer("crowd", "serve", Setting(server.url)._replace(variant="-"))
        )
        try:
            async with connect(server.url) as kit:
                return await _cost(instancer(f"bus:{NAME}", bus=kit.bus))
        finally:
            crowd.stop()


async def _thousand_in(system: Any) -> tuple[float, float]:
    await system.put("crowd", COUNT)
    return await _cost(instancer(system.address("crowd").partition("?")[0]))


async def _cost(source: Instancer) -> tuple[float, float]:
    """Return the megabytes that following a source takes, and the share of a processor."""
    tracemalloc.start()
    called = _Called()
    endpointer = Endpointer(source, called.node)
    call = balanced(endpointer)
    async with asyncio.timeout(30):
        while len(endpointer.nodes) < COUNT:
            await call(Context(), None)
            await asyncio.sleep(0.1)
    gc.collect()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    start, cpu = perf_counter(), process_time()
    await asyncio.sleep(_REST_SECONDS)
    share = (process_time() - cpu) / (perf_counter() - start)
    await endpointer.close()
    await source.close()
    return used / _MEGABYTE, share


async def without(system: Any, seconds: float) -> int:
    """Return the calls that fail while the registry is killed, and after it is back."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            setting = Setting("-", "json", "unary", free_port())
            process = Process(python_peer("grpcio", "serve", setting))
            stack.callback(process.stop)
            kept = registrar(
                system.registration("sum"),
                Instance(address=f"127.0.0.1:{setting.port}"),
            )
            await kept.start()
            stack.push_async_callback(kept.stop)
            await kept.announced()
        where = system.address("sum").partition("?")[0]
        upstream = await stack.enter_async_context(Upstream(where, Calculator))
        client = upstream.client(Calculator)
        await client.sum(1, 2)
        ended = asyncio.Event()
        load = asyncio.create_task(offer(lambda _: client.sum(1, 2), _RATE, ended))
        await asyncio.sleep(1)
        system.program.kill()
        await asyncio.sleep(seconds)
        await asyncio.to_thread(system.program.start)
        await asyncio.sleep(5)  # the registrars have announced again
        ended.set()
        return sum(bool(outcome.error) for outcome in await load)
