"""Balancing: what a route costs, and what it spares when one instance of four is slow.

The load is open: calls begin 200 times a second whatever happens to those before, so that
waiting is seen.  The instances answer after 5 ms, the slow one after 50 ms, on connections
of their own to one server; all variants are measured in turn in each round.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks import bounds
from benchmarks.bounds import report
from kitmsg import Kit, Service, connect, endpoint
from kitmsg.balance import Node, direct, p2c
from kitmsg.balance.fleet import Fleet
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.bus.memory import MemoryBus
from kitmsg.context import Context
from kitmsg.discovery.instance import Instance
from kitmsg.middleware import hedge

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable

    from kitmsg.endpoints import Endpoint

__all__ = ["measure", "p99", "report", "steadily"]

_FAST: Final = 0.005
_SLOW: Final = 0.05
_RATE: Final = 200.0  # calls a second
_SECONDS: Final = 6.0
_CPU_CALLS: Final = 50_000
_PICKED: Final = 100  # instances


class Quotes(Service):
    """Answers after a while."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.calls = 0

    @endpoint(idempotent=True)
    async def get(self) -> int:
        """Return after the time of this instance."""
        self.calls += 1
        await asyncio.sleep(self.seconds)
        return 1


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the figures, each with its bound."""
    rounds = options.rounds
    picks = [_pick_seconds() for _ in range(rounds)]
    adds = [asyncio.run(_route_seconds()) for _ in range(rounds)]
    slow = [asyncio.run(_one_slow()) for _ in range(rounds)]
    rows = [
        bounds.row("p2c pick of 100, us", [each * 1e6 for each in picks], 2.0),
        bounds.row("direct() adds to a call, us", [each * 1e6 for each in adds], 3.0),
    ]
    for name, bound in (("direct", 0.35), ("hedge", 0.5)):
        shares = [each[name]["p99"] / each["queue group"]["p99"] for each in slow]
        rows.append(
            bounds.row(f"one of 4 slow, p99: {name} / queue group", shares, bound)
        )
    extra = [each["hedge"]["served"] / each["hedge"]["asked"] - 1 for each in slow]
    rows.append(bounds.row("hedge(0.95, budget=0.05), extra load", extra, 0.06))
    return rows


def _pick_seconds() -> float:
    """Return the seconds of one pick over 100 nodes that have latencies and open calls."""
    nodes = tuple(
        Node[None](Instance(address=str(number)), None) for number in range(_PICKED)
    )
    now = 1.0
    for number, node in enumerate(nodes):
        node.begin(now - 0.01)
        node.end(now - 0.01, now - 0.001 * (number % 7), failed=False)
        if number % 2:
            node.begin(now - 0.001)
    pick = p2c().pick
    start = time.process_time()
    for _ in range(_CPU_CALLS):
        pick(nodes, now, "", ())
    return (time.process_time() - start) / _CPU_CALLS


async def _route_seconds() -> float:
    """Return the CPU seconds that a route adds to a call, over a call that does nothing."""

    async def nothing(_ctx: Context, request: int) -> int:
        return request

    bus = MemoryBus()
    async with connect(bus=bus):
        others = [Kit(bus) for _ in range(4)]
        for other in others:  # each as a process of its own would
            await other.serve(Quotes())
        fleet = Fleet(bus, "quotes")
        routed = fleet.routed(direct(), "quotes.get", "quotes.get", lambda _: nothing)
        ctx = Context(endpoint="quotes.get")
        await routed(ctx, 1)
        plain = await _cpu(nothing, ctx)
        found = await _cpu(routed, ctx) - plain
        await fleet.close()
        for other in others:
            await other.drain()
    return found


async def _cpu(call: Endpoint[Any, Any], ctx: Context) -> float:
    start = time.process_time()
    for number in range(_CPU_CALLS):
        await call(ctx, number)
    return (time.process_time() - start) / _CPU_CALLS


async def _one_slow() -> dict[str, dict[str, float]]:
    """Return p99 and load of each way to call four instances of which one is slow."""
    async with contextlib.AsyncExitStack() as stack:
        server = stack.enter_context(EmbeddedServer(jetstream=False))
        services = [Quotes(_SLOW), *(Quotes(_FAST) for _ in range(3))]
        for service in services:
            serving: Kit = await stack.enter_async_context(connect(server.url))
            await serving.serve(service)
        kit: Kit = await stack.enter_async_context(connect(server.url))
        ways = {
            "queue group": kit.client(Quotes),
            "direct": kit.client(Quotes, route=direct()),
            "hedge": kit.client(Quotes, middleware=[hedge(0.95, budget=0.05)]),
        }
        found = {}
        for name, client in ways.items():
            await steadily(client.get, 0.5)  # what it learns first
            before = sum(service.calls for service in services)
            latencies = await steadily(client.get, _SECONDS)
            served = sum(service.calls for service in services) - before
            found[name] = {
                "p99": p99(latencies),
                "asked": float(len(latencies)),
                "served": float(served),
            }
    return found


async def steadily(call: Callable[[], Awaitable[Any]], seconds: float) -> list[float]:
    """Return the latencies of calls that begin at a steady rate."""
    clock = asyncio.get_running_loop().time
    start = clock()

    async def one(due: float) -> float:
        await call()
        return clock() - due

    tasks = []
    for number in range(int(seconds * _RATE)):
        due = start + number / _RATE
        await asyncio.sleep(due - clock())
        tasks.append(asyncio.ensure_future(one(due)))
    return list(await asyncio.gather(*tasks))


def p99(latencies: list[float]) -> float:
    """Return the latency that one call in a hundred exceeds."""
    return statistics.quantiles(latencies, n=100)[98]
