"""InfluxDB, asked by its own query language."""

from __future__ import annotations

import asyncio
import itertools
import json
import urllib.parse
import urllib.request
from typing import Any

from kitmsg.testing.metrics import Observed
from tests.discovery.systems.program import Program
from tests.metrics.receivers.pushed import Pushed
from tests.ports import free_port
from tests.require import need

__all__ = ["InfluxDB", "InfluxReceiver"]

_CONFIG = """\
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
  dir = "meta"
[data]
  dir = "data"
  wal-dir = "wal"
[http]
  bind-address = "127.0.0.1:{http}"
[[udp]]
  enabled = true
  bind-address = "127.0.0.1:{udp}"
  database = "metrics"
  batch-timeout = "20ms"
"""
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
_numbers = itertools.count(1)


class InfluxDB:
    """The server."""

    def __init__(self) -> None:
        self.http, self.udp = free_port(), free_port()
        self.program = Program([need("influxd"), "-config", "config"], self._is_ready)
        config = _CONFIG.format(rpc=free_port(), http=self.http, udp=self.udp)
        (self.program.folder / "config").write_text(config)
        self.program.start()

    def query(self, text: str) -> list[dict[str, Any]]:
        """Return the rows of a query."""
        data = urllib.parse.urlencode({"q": text, "db": "metrics"}).encode()
        url = f"http://127.0.0.1:{self.http}/query"
        with urllib.request.urlopen(url, data, timeout=10) as answer:
            (result,) = json.loads(answer.read())["results"]
        return [
            dict(zip(series["columns"], values, strict=True))
            for series in result.get("series", ())
            for values in series["values"]
        ]

    def _is_ready(self) -> bool:
        self.query("CREATE DATABASE metrics")
        return True


class InfluxReceiver(Pushed):
    """Metrics pushed there, by HTTP or UDP, as queries show them."""

    def __init__(self, server: InfluxDB, *, by_udp: bool = False) -> None:
        address = f"influx+http://127.0.0.1:{server.http}?db=metrics"
        super().__init__(f"influx://127.0.0.1:{server.udp}" if by_udp else address)
        self.server = server

    async def flush(self) -> None:
        number = next(_numbers)
        await self.push()
        self.metrics.gauge("mark").set(number)
        await self.push()
        while self._last("mark", {}).get("value") != number:
            await asyncio.sleep(0.01)

    def _last(self, name: str, labels: dict[str, str]) -> dict[str, Any]:
        where = " AND ".join(f"\"{key}\"='{value}'" for key, value in labels.items())
        condition = f"WHERE {where}" if where else ""
        query = f'SELECT * FROM "{name}" {condition} ORDER BY time DESC LIMIT 1'
        rows = self.server.query(query)
        return rows[0] if rows else {}

    async def counter(self, name: str, labels: dict[str, str], /) -> float:
        return float(self._last(name, labels).get("value", 0.0))

    async def gauge(self, name: str, labels: dict[str, str], /) -> float:
        return float(self._last(name, labels)["value"])

    async def histogram(self, name: str, labels: dict[str, str], /) -> Observed:
        where = " AND ".join(f"\"{key}\"='{value}'" for key, value in labels.items())
        condition = f"AND {where}" if where else ""
        last = self._last(name, labels)
        query = f'SELECT * FROM "{name}" WHERE "p50" > -1000000 {condition}'
        row = self.server.query(f"{query} ORDER BY time DESC LIMIT 1")[0]
        quantiles = {q: row[p] for p, q in _QUANTILES.items()}
        return Observed(last["count"], last["sum"], quantiles)
