"""Faults, one after the other under a steady load: what they cost callers, and for how long.

The rows are those of the README's "When something dies".  Callers ask 300 times a second
with the default deadline of 5 s; the service takes 20 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

import kitmsg
from benchmarks import table
from benchmarks.figures.offered import Outcome, endings, offer, run
from benchmarks.figures.services import JOURNAL, Recorder
from benchmarks.fleet import free_port
from benchmarks.relay import Relay
from benchmarks.worker import Worker
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.errors import KitError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable, Iterator

__all__ = ["measure", "report"]

_TARGET: Final = f"{Path(__file__).parent / 'figures' / 'services.py'}:Recorder"
_PER_SECOND: Final = 300
_STEADY_SECONDS: Final = 0.5
_BLOCK_SECONDS: Final = 0.5
_DOWN_SECONDS: Final = 1.0
_FROZEN_SECONDS: Final = 4.0
_PATIENCE_SECONDS: Final = 30.0
_QUIET_SECONDS: Final = 2.5
_ROUTE: Final = (
    'cluster {{ name: c, listen: "127.0.0.1:{}", routes: ["nats://127.0.0.1:{}"] }}'
)
_LAME_DUCK: Final = 'lame_duck_grace_period: "2s"\nlame_duck_duration: "30s"\n'


class _Times(NamedTuple):
    """When a fault began, and when it was over; `perf_counter`'s seconds."""

    began: float
    over: float | None = None  # None for one that nobody repairs


@contextlib.contextmanager
def _workers(
    url: str, count: int = 1, names: tuple[str, ...] = ()
) -> Iterator[list[Worker]]:
    """Start a parent with `count` workers, and one at each of the addresses in `names`."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        environ = {JOURNAL: str(Path(folder) / "journal")}
        yield [
            stack.enter_context(
                Worker(address, _TARGET, workers=many, environ=environ, is_quiet=True)
            )
            for address, many in [(url, count), *((name, 1) for name in names)]
        ]


def _under_load(url: str, fault: Callable[[], Awaitable[_Times]]) -> dict[str, Any]:
    """Return what came of calls before, during and after `fault`."""

    async def ask() -> tuple[list[Outcome], _Times]:
        ended = asyncio.Event()
        async with kitmsg.connect(url) as kit:
            recorder = kit.client(Recorder)
            load = asyncio.create_task(offer(recorder.record, _PER_SECOND, ended))
            await asyncio.sleep(_STEADY_SECONDS)
            times = await fault()
            await _recovered(recorder)
            ended.set()
            return await load, times

    outcomes, times = run(ask())
    return _row(outcomes, times)


async def _recovered(recorder: Recorder) -> None:
    """Wait until calls have had results for a while."""
    end = perf_counter() + _PATIENCE_SECONDS
    since = perf_counter()
    while perf_counter() < end and perf_counter() - since < _QUIET_SECONDS:
        try:
            await recorder.record(-1)
        except KitError:
            since = perf_counter()
        await asyncio.sleep(0.02)


def _row(outcomes: list[Outcome], times: _Times) -> dict[str, Any]:
    failed = [o for o in outcomes if o.error]
    since = times.began if times.over is None else times.over
    later = [o for o in outcomes if not o.error and o.sent >= since]
    last = max((o.sent for o in failed), default=since)
    return {
        "calls": len(outcomes),
        "lost": len(failed),
        "told": max((o.took for o in failed), default=0.0),
        "first": min((o.ended for o in later), default=float("inf")) - since,
        "until": max(0.0, last - since),
        "ends": endings(outcomes),
    }


def _bus_killed() -> dict[str, Any]:
    with EmbeddedServer() as bus, _workers(bus.url):

        async def fault() -> _Times:
            began = perf_counter()
            await asyncio.to_thread(bus.kill)
            await asyncio.sleep(_DOWN_SECONDS)
            await asyncio.to_thread(bus.restart)
            return _Times(began, perf_counter())

        return _under_load(bus.url, fault)


def _bus_frozen() -> dict[str, Any]:
    with EmbeddedServer() as bus, _workers(bus.url):

        async def fault() -> _Times:
            began = perf_counter()
            bus.pause()
            await asyncio.sleep(_FROZEN_SECONDS)
            bus.resume()
            return _Times(began, perf_counter())

        return _under_load(bus.url, fault)


def _one_way() -> dict[str, Any]:
    with (
        EmbeddedServer() as bus,
        Relay(_port(bus)) as network,
        _workers(bus.url),
    ):

        async def fault() -> _Times:
            network.hang()
            return _Times(perf_counter())

        return _under_load(network.url, fault)


def _worker_killed() -> dict[str, Any]:
    return _signalled(signal.SIGKILL, count=2)


def _worker_stopped() -> dict[str, Any]:
    return _signalled(signal.SIGSTOP, count=2)


def _worker_alone() -> dict[str, Any]:
    return _signalled(signal.SIGSTOP, count=1)


def _signalled(number: int, *, count: int) -> dict[str, Any]:
    with EmbeddedServer() as bus, _workers(bus.url, count) as (parent,):
        victim = parent.children[0]

        async def fault() -> _Times:
            os.kill(victim, number)
            return _Times(perf_counter())

        return _under_load(bus.url, fault)


def _worker_blocked() -> dict[str, Any]:
    with EmbeddedServer() as bus, _workers(bus.url, 2):

        async def fault() -> _Times:
            async with kitmsg.connect(bus.url) as kit:
                blocker = kit.client(Recorder, timeout=_BLOCK_SECONDS)
                began = perf_counter()
                # Its deadline is far enough away for the turn to begin.
                with contextlib.suppress(KitError):
                    await blocker.block(60.0)
            return _Times(began)

        return _under_load(bus.url, fault)


def _machine_lost() -> dict[str, Any]:
    with (
        EmbeddedServer() as bus,
        Relay(_port(bus)) as network,
        _workers(bus.url, names=(network.url,)),
    ):

        async def fault() -> _Times:
            network.hold()
            return _Times(perf_counter())

        return _under_load(bus.url, fault)


def _upgrade() -> dict[str, Any]:
    one, two = free_port(), free_port()
    with (
        EmbeddedServer(
            jetstream=False, config=_LAME_DUCK + _ROUTE.format(one, two)
        ) as old,
        EmbeddedServer(jetstream=False, config=_ROUTE.format(two, one)),
        _workers(old.url, 2),
    ):

        async def fault() -> _Times:
            began = perf_counter()
            os.kill(old.pid, signal.SIGUSR2)
            while _runs(old.pid):  # noqa: ASYNC110  # a process tells nobody
                await asyncio.sleep(0.1)
            return _Times(began)

        return _under_load(old.url, fault)


def _runs(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def _port(bus: EmbeddedServer) -> int:
    port = urlsplit(bus.url).port
    assert port is not None  # noqa: S101  # every server of ours has one
    return port


_ALL: Final[dict[str, tuple[str, Callable[[], dict[str, Any]]]]] = {
    "bus-killed": (f"bus killed, back after {_DOWN_SECONDS:g} s", _bus_killed),
    "bus-frozen": (f"bus frozen for {_FROZEN_SECONDS:g} s", _bus_frozen),
    "one-way": ("network from the bus to the caller silent", _one_way),
    "worker-killed": ("one of two workers killed", _worker_killed),
    "worker-stopped": ("one of two workers stopped (SIGSTOP)", _worker_stopped),
    "worker-blocked": ("event loop of one of two workers blocked", _worker_blocked),
    "worker-alone": ("the only worker stopped (SIGSTOP)", _worker_alone),
    "machine-lost": ("machine of one of two workers gone silent", _machine_lost),
    "upgrade": ("NATS upgrade: one of two servers as lame duck", _upgrade),
}


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each fault.

    Raises:
        ValueError: `options.only` names something else.
    """
    unknown = sorted(set(options.only) - set(_ALL))
    if unknown:
        raise ValueError(f"no fault {unknown[0]!r}; there are {', '.join(_ALL)}")
    rows = []
    for name, (what, fault) in _ALL.items():
        if options.only and name not in options.only:
            continue
        print(f"faults: {name}", file=sys.stderr, flush=True)
        rows.append({"name": name, "what": what, **fault()})
    return rows


def report(rows: list[dict[str, Any]]) -> str:
    """Return the table of what `measure` found."""
    head = ("fault", "calls", "lost", "told within", "next result", "lost until")
    lines = [
        (
            row["what"],
            f"{row['calls']:,}",
            f"{row['lost']:,}",
            *(f"{row[key]:.2f} s" for key in ("told", "first", "until")),
        )
        for row in rows
    ]
    ends = "".join(f"{row['name']}: {row['ends']}\n" for row in rows)
    return (
        f"{table.draw(head, lines)}\n\n"
        f"{_PER_SECOND} calls a second, deadline 5 s.  Next result and lost until: seconds"
        " after the fault,\nor after it was repaired where it says when.\n\n"
        f"{ends}"
    )
