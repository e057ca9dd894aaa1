"""Metrics: a push loop's share of a core, a page of 10,000 series, and calls beside a push.

Everything is a ratio on one machine in one run: prometheus-client's page and memory beside
ours, the same calls with a push loop and without, and the CPU of 10,000 observations a
second beside a loop that only keeps the time.
"""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import time
import tracemalloc
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import msgspec
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

import kitmsg
from benchmarks import table
from benchmarks.peers.kit import Calculator
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.metrics.address import parse
from kitmsg.metrics.discard import DISCARD
from kitmsg.metrics.memory import MemoryMetrics
from kitmsg.metrics.prometheus import render
from kitmsg.metrics.push import pushers, pushing
from kitmsg.metrics.stats import BOUNDS_SECONDS
from kitmsg.service.counted import families
from kitmsg.service.report import report as describe

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from kitmsg.metrics.families import Family
    from kitmsg.metrics.provider import Provider

__all__ = ["measure", "report"]

_SECONDS: Final = 4.0
_RATE: Final = 10_000  # observations a second
_TICK: Final = 0.01
_SERIES: Final = 10
_NAMES: Final = 8
_EACH: Final = 1_000
_HISTOGRAMS: Final = 105  # of 19 lines each: about 2,000
_PAGES: Final = 15
_CALLS: Final = 10_000
_IN_FLIGHT: Final = 64
_PAIRS: Final = 12
_WANTED: Final = {
    "page of 10,000 series, time": 1.2,
    "10,000 series, memory": 1.2,
    "calls beside a push, CPU": 1 / 0.98,
}
_MOST_SHARE: Final = 0.02


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows; each has a ratio, or a share of a core."""
    return [
        *_page(),
        *asyncio.run(_pushed(_SECONDS * options.rounds / 3)),
        asyncio.run(_calls(min(options.calls, _CALLS), _PAIRS * options.rounds // 3)),
    ]


def report(rows: list[dict[str, Any]]) -> str:
    """Return a table."""
    lines = []
    for row in rows:
        most = _WANTED.get(row["what"], _MOST_SHARE)
        values = (row["kitmsg"], row["other"], row["ratio"], most)
        lines.append((row["what"], *(f"{value:.4g}" for value in values)))
    return table.draw(("what", "kitmsg", "other", "ratio", "at most"), lines)


def _row(what: str, ours: float, other: float, ratio: float) -> dict[str, Any]:
    return {"what": what, "kitmsg": ours, "other": other, "ratio": ratio}


# -- a page of 10,000 series


def _page() -> list[dict[str, Any]]:
    disable_created_metrics()
    (ours, our_bytes), (theirs, their_bytes) = _held(_ours), _held(_theirs)
    pairs = [(_took(ours), _took(theirs)) for _ in range(_PAGES)]
    times = [median(each) for each in zip(*pairs, strict=True)]
    ratio = median(a / b for a, b in pairs)
    return [
        _row("page of 10,000 series, time", times[0], times[1], ratio),
        _row("10,000 series, memory", our_bytes, their_bytes, our_bytes / their_bytes),
    ]


def _held(make: Callable[[], Callable[[], object]]) -> tuple[Callable[[], object], int]:
    """Return what makes a page, and the memory of its series in bytes."""
    gc.collect()
    tracemalloc.start()
    page = make()
    gc.collect()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return page, size


def _took(page: Callable[[], object]) -> float:
    started = time.perf_counter()
    page()
    return time.perf_counter() - started


def _ours() -> Callable[[], object]:
    metrics = MemoryMetrics()
    for name in range(_NAMES):
        make = metrics.gauge if name % 4 == 0 else metrics.counter
        family = make(f"bench_{name}", "A name.", labels=("service", "id"))
        for each in range(_EACH):
            family.labels(service="orders", id=f"n{each}").add(each)
    times = metrics.histogram("bench_seconds", "Times.", labels=("endpoint",))
    for each in range(_HISTOGRAMS):
        times.labels(endpoint=f"orders.e{each}").observe(0.003)
    return lambda: render(metrics.collect()).encode()


def _theirs() -> Callable[[], object]:
    registry = CollectorRegistry()
    for name in range(_NAMES):
        make: Any = Gauge if name % 4 == 0 else Counter
        family = make(f"bench_{name}", "A name.", ("service", "id"), registry=registry)
        for each in range(_EACH):
            family.labels(service="orders", id=f"n{each}").inc(each)
    times = Histogram(
        "bench_seconds",
        "Times.",
        ("endpoint",),
        registry=registry,
        buckets=BOUNDS_SECONDS,
    )
    for each in range(_HISTOGRAMS):
        times.labels(endpoint=f"orders.e{each}").observe(0.003)
    return lambda: generate_latest(registry)


# -- 10,000 observations a second


async def _pushed(seconds: float) -> list[dict[str, Any]]:
    rest = await _share(DISCARD, seconds)
    rows = []
    for scheme in ("statsd", "dogstatsd", "influx"):
        with _sink() as sink:
            address = f"{scheme}://127.0.0.1:{sink.getsockname()[1]}?interval=2"
            async with pushing(address) as metrics:
                share = await _share(metrics, seconds)
        what = f"{scheme}, 10,000 observations/s, share of a core"
        rows.append(_row(what, share, rest, share - rest))
    return rows


def _sink() -> socket.socket:
    """Return a socket that takes datagrams and reads none."""
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


async def _share(metrics: Provider, seconds: float) -> float:
    """Return the CPU of observations at a steady rate, as a share of a core."""
    family = metrics.histogram("bench_seconds", labels=("n",))
    series = [family.labels(n=str(number)) for number in range(_SERIES)]
    chance = random.Random(1)  # noqa: S311  # samples
    values = [chance.lognormvariate(-5, 1) for _ in range(1_000)]
    loop = asyncio.get_running_loop()
    started, cpu, done = loop.time(), time.process_time(), 0
    while (passed := loop.time() - started) < seconds:
        while done < passed * _RATE:
            series[done % _SERIES].observe(values[done % 1_000])
            done += 1
        await asyncio.sleep(_TICK)
    return (time.process_time() - cpu) / passed


# -- calls beside a push


async def _calls(calls: int, pairs: int) -> dict[str, Any]:
    with EmbeddedServer(jetstream=False) as bus, _sink() as sink:
        async with kitmsg.connect(bus.url) as kit:
            await kit.serve(Calculator())
            client = kit.client(Calculator)
            address = f"statsd://127.0.0.1:{sink.getsockname()[1]}?interval=2"
            ratios, both = [], []
            for number in range(max(2, pairs)):
                order = (True, False) if number % 2 else (False, True)
                found = {
                    is_on: await _cost(kit, client, calls, address if is_on else "")
                    for is_on in order
                }
                both.append((found[True], found[False]))
                ratios.append(found[True] / found[False])
    ours, other = (median(each) for each in zip(*both, strict=True))
    return _row("calls beside a push, CPU", ours, other, median(ratios))


async def _cost(kit: kitmsg.Kit, client: Any, calls: int, address: str) -> float:
    """Return the CPU of one call in seconds, both sides together."""

    def collect() -> list[Family]:
        return families([(1, 0, msgspec.to_builtins(describe(kit, kit.hosts)))])

    left = iter(range(calls))

    async def call() -> None:
        for _ in left:
            await client.sum(a=1, b=2)

    loops = pushers([parse(address)] if address else [], collect)
    for each in loops:
        each.start()
    cpu = time.process_time()
    await asyncio.gather(*(call() for _ in range(_IN_FLIGHT)))
    cost = (time.process_time() - cpu) / calls
    await asyncio.gather(*(each.close() for each in loops))
    return cost
