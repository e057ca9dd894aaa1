"""Ten times more calls than a worker can do: how many it does, and how long those wait.

The service holds up its event loop for two milliseconds, as a calculation does, but leaves
the processor to the callers and the server: they shall not be what is overloaded.  Its peak
is what 64 callers get who always ask again: as many as it runs at once, so that nobody waits
for a place.  What the slowest hundredth of them waits is the wait without overload.  Then
it is offered ten times the peak, with and without shedding.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from statistics import quantiles
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import kitmsg
from benchmarks import table
from benchmarks.figures.offered import endings, offer, run
from benchmarks.figures.services import Burner, Unshed
from benchmarks.worker import Worker
from kitmsg.bus.embedded import EmbeddedServer

if TYPE_CHECKING:
    import argparse

__all__ = ["measure", "report"]

_FILE: Final = Path(__file__).parent / "figures" / "services.py"
_SECONDS: Final = 8.0
_KNOWN: Final = (
    3.0  # seconds until what came before it was known for an overload is done
)
_CALLERS: Final = 64
_TIMES: Final = 10


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each service and round."""
    return [
        {"round": number, "shedding": service is not Unshed, **_measure(service)}
        for number in range(options.rounds)
        for service in (Unshed, Burner)
    ]


def _measure(service: type[Burner]) -> dict[str, Any]:
    with (
        EmbeddedServer(jetstream=False) as bus,
        Worker(bus.url, f"{_FILE}:{service.__name__}", is_quiet=True),
    ):
        return run(_ask(bus.url, service))


async def _ask(url: str, service: type[Burner]) -> dict[str, Any]:
    # The breaker of the client would refuse most calls itself.
    async with kitmsg.connect(url, breaker=False) as kit:
        client = kit.client(service, timeout=5.0)
        took: list[float] = []

        async def ask_again(until: float) -> None:
            while (start := perf_counter()) < until:
                await client.burn()
                took.append(perf_counter() - start)

        until = perf_counter() + _SECONDS
        await asyncio.gather(*(ask_again(until) for _ in range(_CALLERS)))
        peak, calm = len(took) / _SECONDS, _p99(took)
        ended = asyncio.Event()
        asyncio.get_running_loop().call_later(_SECONDS, ended.set)
        outcomes = await offer(lambda _: client.burn(), _TIMES * peak, ended)
        start = outcomes[0].sent
        steady = [o for o in outcomes if _KNOWN <= o.ended - start <= _SECONDS]
        good = [o.took for o in steady if not o.error]
        return {
            "peak": peak,
            "goodput": len(good) / (_SECONDS - _KNOWN),
            "calm": calm,
            "p99": _p99(good),
            "ends": endings(outcomes),
        }


def _p99(took: list[float]) -> float:
    return quantiles(took, n=100)[98] if len(took) > 1 else 0.0


def report(rows: list[dict[str, Any]]) -> str:
    """Return the table of what `measure` found."""
    head = (
        "shedding",
        "peak/s",
        "goodput/s",
        "of peak",
        "p99 calm",
        "p99",
        "of calm",
        "ends",
    )
    lines = [
        (
            "on" if row["shedding"] else "off",
            f"{row['peak']:,.0f}",
            f"{row['goodput']:,.0f}",
            f"{row['goodput'] / row['peak']:.2f}",
            f"{row['calm'] * 1e3:.1f} ms",
            f"{row['p99'] * 1e3:.1f} ms",
            f"{row['p99'] / row['calm']:.2f}",
            row["ends"],
        )
        for row in rows
    ]
    return (
        f"{table.draw(head, lines)}\n\n"
        f"{_TIMES} times the peak is offered; {_CALLERS} callers made it.\n"
        "Wanted with shedding: goodput at least 0.9 of the peak, and a p99 of at most twice"
        " the calm one.\n"
    )
