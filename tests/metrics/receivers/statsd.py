"""The StatsD server of its authors, with a backend that writes down what it is given."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

from kitmsg.metrics.lines import path_name
from kitmsg.testing.metrics import Observed
from tests import peers
from tests.discovery.systems.program import Program
from tests.metrics.receivers.pushed import Pushed
from tests.ports import free_port
from tests.require import need

__all__ = ["StatsD", "StatsDReceiver"]

_FLUSH_MS = 150
_QUANTILES = (50, 90, 95, 99)


class StatsD:
    """The server."""

    def __init__(self) -> None:
        self.port = free_port()
        self._admin = free_port()
        program = peers.path("statsd-0.9")
        self.program = Program([need("node"), program, "config.js"], self._is_ready)
        config = {
            "address": "127.0.0.1",
            "port": self.port,
            "mgmt_address": "127.0.0.1",
            "mgmt_port": self._admin,
            "flushInterval": _FLUSH_MS,
            "deleteCounters": True,
            "deleteTimers": True,
            "percentThreshold": _QUANTILES,
            "backends": [str(Path(__file__).with_name("statsd_backend.js"))],
        }
        (self.program.folder / "config.js").write_text(json.dumps(config))
        self.program.start()

    def flushes(self) -> list[dict[str, Any]]:
        lines = (self.program.folder / "log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def _is_ready(self) -> bool:
        with socket.create_connection(("127.0.0.1", self._admin)):
            return True


class StatsDReceiver(Pushed):
    """Metrics pushed there, as it gives them to its backends."""

    def __init__(self, server: StatsD, options: str = "") -> None:
        super().__init__(f"statsd://127.0.0.1:{server.port}{options}")
        self.server = server

    async def flush(self) -> None:
        await self._flushed()  # so that all comes to one flush of the server
        await self.push()
        await self._flushed()
        await self._flushed()

    async def _flushed(self) -> None:
        known = len(self.server.flushes())
        while len(self.server.flushes()) == known:
            await asyncio.sleep(0.01)

    async def counter(self, name: str, labels: dict[str, str], /) -> float:
        key = path_name(name, labels.items())
        return float(sum(f["counters"].get(key, 0) for f in self.server.flushes()))

    async def gauge(self, name: str, labels: dict[str, str], /) -> float:
        key = path_name(name, labels.items())
        return float(self.server.flushes()[-1]["gauges"][key])

    async def histogram(self, name: str, labels: dict[str, str], /) -> Observed:
        key = path_name(name, labels.items())
        found = [f["timers"][key] for f in self.server.flushes() if key in f["timers"]]
        last = found[-1]
        quantiles = {q / 100: last[f"upper_{q}"] for q in _QUANTILES}
        return Observed(sum(each["count"] for each in found), quantiles=quantiles)
