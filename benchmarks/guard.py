"""What the layers cost, in a few seconds: for CI to print, never to assert.

kitmsg in its default configuration beside the raw echo over the same connection, both in
this run: the ratio holds on a slow machine and on a fast one.  Where the kernel counts
instructions (``perf``), instructions per call of the server, too, which hardly move.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from benchmarks import table
from benchmarks.compare import RPC, available, compare
from benchmarks.fleet import Load, Process, python_peer
from benchmarks.peers import Setting
from kitmsg.bus.embedded import EmbeddedServer

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

__all__ = ["measure", "report"]

_CALLS: Final = 10_000
_ROUNDS: Final = 5
_IN_FLIGHT: Final = 64
_SETTLE_SECONDS: Final = 0.3
_EVENT: Final = "instructions:u"
_MODULES: Final = {"kitmsg": "kit", "kitmsg-bare": "kit", "echo": "echo"}


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return what each peer costs, in echoes; see `table.Ratio`."""
    calls = min(options.calls, _CALLS)
    peers = available(RPC, list(_MODULES), go="")
    samples = compare(
        peers,
        codec="json",
        in_flight=[_IN_FLIGHT],
        rounds=_ROUNDS,
        calls=calls,
        go="",
    )
    echo = [s for s in samples if s.peer == "echo"]
    counted = _instructions(calls)
    rows = []
    for name in _MODULES:
        ours = [s for s in samples if s.peer == name]
        row: dict[str, Any] = {
            "peer": name,
            "rate": table.ratio([s.rate for s in ours], [s.rate for s in echo]),
            "server_instructions": counted.get(name),
        }
        for role in ("server", "client"):
            row[f"{role}_cpu"] = table.ratio(
                [s.cpu[role] for s in ours], [s.cpu[role] for s in echo]
            )
            row[f"{role}_cpu_us"] = median(s.cpu[role] for s in ours) * 1e6
        rows.append(row)
    return rows


def report(rows: list[dict[str, Any]]) -> str:
    """Return the table of what `measure` found."""
    head = [
        *("64 in flight, json", "req/s, in echoes", "server CPU, in echoes"),
        *("client CPU, in echoes", "server us", "client us"),
    ]
    lines = [
        [
            *(row["peer"], row["rate"], row["server_cpu"], row["client_cpu"]),
            *(f"{row['server_cpu_us']:.1f}", f"{row['client_cpu_us']:.1f}"),
        ]
        for row in rows
    ]
    text = table.draw(head, lines) + "\n"
    counted = {row["peer"]: row["server_instructions"] for row in rows}
    if not any(counted.values()):
        return f"{text}\nNo instructions: without perf, or without a counter for it.\n"
    told = ", ".join(f"{name} {count or 0:,.0f}" for name, count in counted.items())
    return f"{text}\nInstructions per call, of the server: {told}.\n"


def _instructions(calls: int) -> dict[str, float]:
    """Return the server's instructions per call, by peer; {} where none are counted."""
    if not _counts(_EVENT):
        return {}
    found = {}
    with EmbeddedServer(jetstream=False) as bus:
        for peer in (peer for peer in RPC if peer.name in _MODULES):
            module, _, variant = peer.server.partition(" ")
            setting = Setting(bus.url, variant=variant)
            with _running(module, setting) as (server, load):
                load.measure(_IN_FLIGHT, calls // 10)
                with _Counter(server.pid, _EVENT) as counter:
                    load.measure(_IN_FLIGHT, calls)
                found[peer.name] = counter.value / calls
    return found


@contextlib.contextmanager
def _running(module: str, setting: Setting) -> Iterator[tuple[Process, Load]]:
    with contextlib.ExitStack() as stack:
        server = Process(python_peer(module, "serve", setting))
        stack.callback(server.stop)
        load = Load(python_peer(module, "load", setting))
        stack.callback(load.stop)
        yield server, load


def _counts(event: str) -> bool:
    """Tell whether ``perf`` is there and counts `event`."""
    if shutil.which("perf") is None:
        return False
    command = ["perf", "stat", "-x", ",", "-e", event, "true"]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    return not tried.returncode and _value(tried.stderr) is not None


def _value(text: str) -> float | None:
    """Return the count in a line of ``perf stat -x ,``: its first field."""
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            return float(line.partition(",")[0])
    return None


class _Counter:
    """``perf`` on a running process, for as long as the ``with`` lasts."""

    def __init__(self, pid: int, event: str) -> None:
        self.value = 0.0
        self._command = ["perf", "stat", "-x", ",", "-e", event, "-p", str(pid)]

    def __enter__(self) -> _Counter:
        self._perf = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
        # It does not say when it has begun.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._perf.wait(_SETTLE_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._perf.send_signal(signal.SIGINT)
        self.value = _value(self._perf.communicate()[1]) or 0.0
