"""How soon it is there, and what it holds when nothing happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import psutil

from benchmarks.figures.figure import Figure
from benchmarks.fleet import free_port
from benchmarks.worker import GREETER, Worker, wait_until
from kitmsg.bus.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["at_rest", "first_answer", "import_time"]

_ROOT: Final = Path(__file__).parents[2]
_IMPORT_RATIO: Final = 1.5
_ANSWER_SECONDS: Final = 2.0
_REST_BYTES: Final = 70e6


def import_time(is_quick: bool) -> Iterator[Figure]:
    """Import kitmsg and nats in fresh processes, in turns; the best of each counts."""
    best = {"kitmsg": float("inf"), "nats": float("inf")}
    for _ in range(4 if is_quick else 20):
        for module, seconds in best.items():
            best[module] = min(seconds, _import_seconds(module))
    ratio = best["kitmsg"] / best["nats"]
    times = f"{best['kitmsg'] * 1e3:.0f} ms / {best['nats'] * 1e3:.0f} ms"
    yield Figure(
        "import kitmsg / import nats",
        f"<= {_IMPORT_RATIO}",
        f"{ratio:.2f} ({times})",
        ratio,
        ratio <= _IMPORT_RATIO,
    )


def _import_seconds(module: str) -> float:
    code = (
        "from time import perf_counter as now; start = now();"
        f" import {module}; print(now() - start)"
    )
    return float(subprocess.check_output([sys.executable, "-c", code], cwd=_ROOT))


def first_answer(is_quick: bool) -> Iterator[Figure]:
    """Start ``kitmsg dev`` and ask over HTTP until it answers."""
    times = [_dev_seconds() for _ in range(2 if is_quick else 7)]
    yield Figure(
        f"kitmsg dev {GREETER}: first HTTP answer, s",
        f"<= {_ANSWER_SECONDS:g}",
        f"{median(times):.2f} (worst {max(times):.2f} of {len(times)})",
        median(times),
        max(times) <= _ANSWER_SECONDS,
    )


def _dev_seconds() -> float:
    http, bus = free_port(), free_port()
    command = [
        *(sys.executable, "-m", "kitmsg.cli", "dev", GREETER),
        *("--http", str(http), "--nats", str(bus)),
    ]
    environ = {name: text for name, text in os.environ.items() if name != "NATS_URL"}
    dev = subprocess.Popen(
        command,
        cwd=_ROOT,
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{http}/hello/Ann"
        return wait_until(lambda: _answers(url), "kitmsg dev answers")
    finally:
        dev.send_signal(signal.SIGINT)
        dev.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1.0) as answer:  # noqa: S310
            return b"Ann" in answer.read()
    except OSError:  # not there yet, or 404 or 503 so far
        return False


def at_rest(is_quick: bool) -> Iterator[Figure]:
    """Run one worker, let it be, and read its memory."""
    with EmbeddedServer() as bus, Worker(bus.url) as worker:
        time.sleep(0.5 if is_quick else 3.0)
        for what, pid in (("worker", worker.children[0]), ("its parent", worker.pid)):
            size: int = psutil.Process(pid).memory_info().rss
            yield Figure(
                f"resident memory at rest: {what}, MB",
                f"< {_REST_BYTES / 1e6:.0f}",
                f"{size / 1e6:.1f}",
                size / 1e6,
                size < _REST_BYTES,
            )
