"""Upstreams: what is spared when one of four gRPC servers is slow, and when one dies.

The servers are processes of their own and answer after 5 ms, the slow one after 50 ms; 200
calls begin in a second whatever happens to those before.  For the death all answer after
20 ms, and 500 calls begin in a second.
"""

from __future__ import annotations

import asyncio
import contextlib
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import grpc.aio

from benchmarks import bounds
from benchmarks.balance import p99, steadily
from benchmarks.bounds import report
from benchmarks.figures.offered import offer, run
from benchmarks.fleet import Process, free_port, python_peer
from benchmarks.peers import Setting, grpcio
from benchmarks.peers.kit import Calculator
from kitmsg.balance import p2c, round_robin
from kitmsg_gateways.grpc.upstream import Upstream

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable, Iterator

    from kitmsg.balance import Picker

__all__ = ["measure", "one_killed", "report"]

_FAST: Final = 0.005
_SLOW: Final = 0.05
_DYING: Final = 0.02
_SECONDS: Final = 6.0
_DEATH_RATE: Final = 500.0  # calls a second
_SERVERS: Final = 4


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the figures, each with its bound."""
    slow = [run(_one_slow()) for _ in range(options.rounds)]
    dead = [run(one_killed()) for _ in range(options.rounds)]
    what = "one of 4 gRPC servers slow, p99: p2c / "
    return [
        bounds.row(f"{what}{other}", [each["p2c"] / each[other] for each in slow], 0.35)
        for other in ("round robin", "grpc's round_robin")
    ] + [
        bounds.row(
            "kill -9 of one of 4: calls that failed, in flight there",
            [each["held"] for each in dead],
            _DEATH_RATE * _DYING,
        ),
        bounds.row(
            "kill -9 of one of 4: calls that failed, begun after it",
            [each["later"] for each in dead],
            1,
        ),
        bounds.row(
            "kill -9 of one of 4: seconds until it gets no more",
            [each["until"] for each in dead],
            1.0,
        ),
    ]


@contextlib.contextmanager
def _servers(*seconds: float) -> Iterator[tuple[list[Process], list[str]]]:
    """Start servers that answer after `seconds`; give their processes and addresses."""
    with contextlib.ExitStack() as stack:
        processes, addresses = [], []
        for each in seconds:
            setting = Setting("-", "json", f"after:{each}", free_port())
            process = Process(python_peer("grpcio", "serve", setting))
            stack.callback(process.stop)
            processes.append(process)
            addresses.append(f"127.0.0.1:{setting.port}")
        yield processes, addresses


async def _one_slow() -> dict[str, float]:
    """Return p99 of each way to call four servers of which one is slow."""
    found = {}
    with _servers(_SLOW, _FAST, _FAST, _FAST) as (_, addresses):
        pickers: dict[str, Picker] = {"p2c": p2c(), "round robin": round_robin()}
        for name, picker in pickers.items():
            async with Upstream(addresses, Calculator, pick=picker) as upstream:
                client = upstream.client(Calculator)
                found[name] = await _p99(lambda client=client: client.sum(1, 2))
        where = f"ipv4:{','.join(addresses)}"
        policy = [("grpc.lb_policy_name", "round_robin")]
        async with grpc.aio.insecure_channel(where, policy) as channel:
            found["grpc's round_robin"] = await _p99(grpcio.summing(channel))
    return found


async def _p99(call: Callable[[], Awaitable[Any]]) -> float:
    await steadily(call, 0.5)  # what it learns first
    return p99(await steadily(call, _SECONDS))


async def one_killed() -> dict[str, float]:
    """Return what the death of one of four servers costs one client."""
    with _servers(*[_DYING] * _SERVERS) as (processes, addresses):
        async with Upstream(addresses, Calculator) as upstream:
            client = upstream.client(Calculator)
            ended = asyncio.Event()
            load = asyncio.create_task(
                offer(lambda _: client.sum(1, 2), _DEATH_RATE, ended)
            )
            await asyncio.sleep(2)
            processes[0].popen.kill()
            await asyncio.to_thread(processes[0].popen.wait)
            await asyncio.sleep(0.001)  # our loop has turned since, and may know
            killed = perf_counter()
            await asyncio.sleep(3)
            ended.set()
            failed = [o for o in await load if o.error]
    later = [o.sent - killed for o in failed if o.sent > killed]
    return {
        "held": len(failed) - len(later),
        "later": len(later),
        "until": max(later, default=0.0),
    }
