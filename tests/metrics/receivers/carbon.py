"""Carbon, Graphite's storage; its cache is asked for what it has not written yet."""

from __future__ import annotations

import asyncio
import itertools
import pickle
import socket
import struct

from kitmsg.metrics.lines import path_name
from kitmsg.testing.metrics import Observed
from tests.discovery.systems.program import Program
from tests.metrics.receivers.pushed import Pushed
from tests.ports import free_port
from tests.require import need

__all__ = ["Carbon", "GraphiteReceiver"]

# It writes what is a day old, so that all of a test is in its cache; where it may not
# create a file it would drop what it has.
_CONFIG = """\
[cache]
STORAGE_DIR = {folder}
CONF_DIR = {folder}
LOG_DIR = {folder}
PID_DIR = {folder}
USER =
LINE_RECEIVER_INTERFACE = 127.0.0.1
LINE_RECEIVER_PORT = {port}
ENABLE_UDP_LISTENER = False
PICKLE_RECEIVER_INTERFACE = 127.0.0.1
PICKLE_RECEIVER_PORT = {pickle}
CACHE_QUERY_INTERFACE = 127.0.0.1
CACHE_QUERY_PORT = {query}
ENABLE_TAGS = False
CACHE_WRITE_STRATEGY = timesorted
MIN_TIMESTAMP_LAG = 86400
"""
_SCHEMAS = "[all]\npattern = .*\nretentions = 1s:1d\n"
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
_numbers = itertools.count(1)


class Carbon:
    """The server."""

    def __init__(self) -> None:
        self.port, self._query = free_port(), free_port()
        command = [need("carbon-cache"), "--config=carbon.conf", "--nodaemon", "start"]
        self.program = Program(command, self._is_ready)
        folder = self.program.folder
        config = _CONFIG.format(
            folder=folder, port=self.port, pickle=free_port(), query=self._query
        )
        (folder / "carbon.conf").write_text(config)
        (folder / "storage-schemas.conf").write_text(_SCHEMAS)
        self.program.start()

    def values(self, name: str) -> list[float]:
        """Return what was last received of a series, in the order of its times."""
        question = pickle.dumps({"type": "cache-query", "metric": name}, 2)
        with (
            socket.create_connection(("127.0.0.1", self._query), 5) as sock,
            sock.makefile("rb") as stream,
        ):
            sock.sendall(struct.pack("!L", len(question)) + question)
            (size,) = struct.unpack("!L", stream.read(4))
            answer = pickle.loads(stream.read(size))
        return [value for _, value in sorted(answer["datapoints"])]

    def _is_ready(self) -> bool:
        return self.values("nothing") == []


class GraphiteReceiver(Pushed):
    """Metrics pushed there, as its cache has them."""

    def __init__(self, server: Carbon, options: str = "?prefix=t") -> None:
        super().__init__(f"graphite://127.0.0.1:{server.port}{options}")
        self.server = server

    async def flush(self) -> None:
        await self.push()
        number = next(_numbers)
        mark = self.metrics.gauge("mark")
        mark.set(number)
        await self.push()
        while self.server.values("t.mark")[-1:] != [number]:
            await asyncio.sleep(0.01)

    def _value(self, name: str, labels: dict[str, str]) -> float:
        found = self.server.values(f"t.{path_name(name, labels.items())}")
        return float(found[-1]) if found else 0.0

    async def counter(self, name: str, labels: dict[str, str], /) -> float:
        return self._value(name, labels)

    async def gauge(self, name: str, labels: dict[str, str], /) -> float:
        return self._value(name, labels)

    async def histogram(self, name: str, labels: dict[str, str], /) -> Observed:
        return Observed(
            self._value(f"{name}.count", labels),
            self._value(f"{name}.sum", labels),
            {q: self._value(f"{name}.{p}", labels) for p, q in _QUANTILES.items()},
        )
