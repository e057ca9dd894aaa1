"""Memory at rest: one more service instance in a process, and a whole worker."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import psutil

from benchmarks import table
from benchmarks.worker import Worker
from kitmsg.bus.embedded import EmbeddedServer

if TYPE_CHECKING:
    import argparse

__all__ = ["measure", "report"]

_INSTANCES: Final = (1, 100, 500)
_WANTED_BYTES: Final = 200e3
_REST_BYTES: Final = 70e6
_ROOT: Final = Path(__file__).parents[1]


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return resident memory by number of instances, and of a worker's processes."""
    with EmbeddedServer(jetstream=False) as bus:
        command = [sys.executable, "-m", "benchmarks.idle", bus.url]
        told = subprocess.check_output(command, cwd=_ROOT)
        grown: list[dict[str, Any]] = msgspec.json.decode(told)
        with Worker(bus.url) as worker:
            rows = [
                {"what": "kitmsg run, parent", "bytes": _resident(worker.pid)},
                {"what": "kitmsg run, worker", "bytes": _resident(worker.children[0])},
            ]
    return grown + rows


def _resident(pid: int) -> int:
    size: int = psutil.Process(pid).memory_info().rss
    return size


async def _grow(url: str) -> list[dict[str, Any]]:
    """Serve more and more instances; returns the memory of this process at each step."""
    import kitmsg
    from benchmarks.peers.kit import Calculator

    rows: list[dict[str, Any]] = []
    async with kitmsg.connect(url) as kit:
        for count in _INSTANCES:
            while len(kit.hosts) < count:
                await kit.serve(Calculator())
            await kit.bus.flush()
            gc.collect()
            size = _resident(os.getpid())
            row = {"what": f"instances in a process: {count}", "bytes": size}
            if rows:
                row["each"] = (size - rows[0]["bytes"]) / (count - _INSTANCES[0])
            rows.append(row)
    return rows


def report(rows: list[dict[str, Any]]) -> str:
    """Return the table of what `measure` found."""
    head = ("idle", "resident MB", "each beyond the first, kB")
    lines = [
        (
            row["what"],
            f"{row['bytes'] / 1e6:,.1f}",
            f"{row['each'] / 1e3:,.1f}" if "each" in row else "",
        )
        for row in rows
    ]
    wanted = (
        f"wanted: under {_WANTED_BYTES / 1e3:.0f} kB each, {_REST_BYTES / 1e6:.0f} MB"
    )
    return f"{table.draw(head, lines)}\n\n{wanted} for a worker at rest\n"


if __name__ == "__main__":
    print(msgspec.json.encode(asyncio.run(_grow(sys.argv[1]))).decode())
