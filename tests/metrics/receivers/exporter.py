"""Prometheus' statsd_exporter, which reads DogStatsD's tags and sampling rates."""

from __future__ import annotations

import asyncio
import itertools
import socket
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from kitmsg.testing.metrics import Observed
from tests import peers
from tests.discovery.systems.program import Program
from tests.metrics.receivers.pushed import Pushed
from tests.ports import free_port

__all__ = ["DogStatsDReceiver", "StatsDExporter"]

_numbers = itertools.count(1)


class StatsDExporter:
    """The server."""

    def __init__(self) -> None:
        self.port = free_port()
        self._web = free_port()
        command = [
            peers.path("statsd-exporter-0.28"),
            f"--web.listen-address=127.0.0.1:{self._web}",
            f"--statsd.listen-udp=127.0.0.1:{self.port}",
            "--statsd.listen-tcp=",
            "--statsd.event-flush-interval=20ms",
        ]
        self.program = Program(command, lambda: bool(self.page()))
        self.program.start()

    def page(self) -> str:
        url = f"http://127.0.0.1:{self._web}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())


class DogStatsDReceiver(Pushed):
    """Metrics pushed there, as its page shows them."""

    def __init__(self, server: StatsDExporter, options: str = "") -> None:
        super().__init__(f"dogstatsd://127.0.0.1:{server.port}{options}")
        self.server = server

    async def flush(self) -> None:
        await self.push()
        mark = next(_numbers)
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.sendto(b"mark:%d|g" % mark, ("127.0.0.1", self.server.port))
        while self._values("mark", {}).get("mark") != mark:
            await asyncio.sleep(0.01)

    def _values(self, name: str, labels: dict[str, str]) -> dict[str, float]:
        """Return the values of a series by name, a quantile's by ``NAME{quantile}``."""
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(self.server.page()):
            if not family.name.startswith(name.removesuffix("_total")):
                continue
            for sample in family.samples:
                own = dict(sample.labels)
                q = own.pop("quantile", "")
                if own == labels:
                    found[f"{sample.name}{{{q}}}" if q else sample.name] = sample.value
        return found

    async def counter(self, name: str, labels: dict[str, str], /) -> float:
        return self._values(name, labels).get(name, 0.0)

    async def gauge(self, name: str, labels: dict[str, str], /) -> float:
        return self._values(name, labels)[name]

    async def histogram(self, name: str, labels: dict[str, str], /) -> Observed:
        found = self._values(name, labels)
        quantiles = {q: found[f"{name}{{{q}}}"] for q in (0.5, 0.9, 0.99)}
        return Observed(found[f"{name}_count"], found[f"{name}_sum"], quantiles)
