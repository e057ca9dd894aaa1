"""Resilience: what its defaults cost a call, and what a limit for the whole fleet costs.

The defaults are the breaker of a client and the shedding of a service.  Each round measures
a service and its caller with both and one without, in turn, 64 calls in flight.
"""

from __future__ import annotations

import asyncio
import contextlib
from time import process_time
from typing import TYPE_CHECKING, Any, Final

from benchmarks import bounds
from benchmarks.bounds import report
from benchmarks.figures.offered import run
from benchmarks.fleet import Load, Process, python_peer
from benchmarks.peers import Setting
from kitmsg import connect
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.context import Context
from kitmsg.errors import ResourceExhausted
from kitmsg.middleware import rate_limit

if TYPE_CHECKING:
    import argparse

    from kitmsg.endpoints import Endpoint

__all__ = ["measure", "report"]

_IN_FLIGHT: Final = 64
_OFF: Final = "breaker+shedding"
_LIMITED_RATE: Final = 5_000.0  # calls a second, half of the limit
_LIMITED_SECONDS: Final = 3.0


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the figures, each with its bound."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(EmbeddedServer(jetstream=False))
        loads = {}
        for variant in ("", _OFF):
            setting = Setting(server.url, options.codec[0], variant)
            serving = Process(python_peer("kit", "serve", setting))
            stack.callback(serving.stop)
            loads[variant] = Load(python_peer("kit", "load", setting))
            stack.callback(loads[variant].stop)
            loads[variant].measure(_IN_FLIGHT, options.calls)  # warm
        ratios = []
        for number in range(options.rounds):
            order = ("", _OFF) if number % 2 else (_OFF, "")
            rates = {
                each: loads[each].measure(_IN_FLIGHT, options.calls)["rate"]
                for each in order
            }
            ratios.append(rates[""] / rates[_OFF])
    shared = [run(_shared_seconds()) * 1e6 for _ in range(options.rounds)]
    what = f"rpc at {_IN_FLIGHT} in flight: breaker and shedding on / off"
    return [
        bounds.row(what, ratios, 0.97, is_least=True),
        bounds.row("rate_limit(n, shared=...) adds to a call, us", shared, 10.0),
    ]


async def _shared_seconds() -> float:
    """Return the CPU seconds that a limit of the fleet adds to a call, leases included."""

    async def nothing(_ctx: Context, request: int) -> int:
        return request

    with EmbeddedServer() as server:
        async with connect(server.url) as kit:
            limit = rate_limit(2 * _LIMITED_RATE, shared="benchmark", store=kit.bus)
            limited = limit(nothing)
            await _cpu(limited)  # the first lease
            return await _cpu(limited) - await _cpu(nothing)


async def _cpu(call: Endpoint[int, int]) -> float:
    """Return the CPU seconds of a call, of so many in a second."""
    ctx = Context(endpoint="calculator.sum")
    clock = asyncio.get_running_loop().time
    cpu, start = process_time(), clock()
    done = refused = 0
    while (now := clock()) < start + _LIMITED_SECONDS:
        for _ in range(int((now - start) * _LIMITED_RATE) - done - refused):
            try:
                await call(ctx, 1)
                done += 1
            except ResourceExhausted:
                refused += 1
        await asyncio.sleep(0.002)
    return (process_time() - cpu) / done
