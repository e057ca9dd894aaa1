"""An OpenTelemetry collector, which passes on as JSON what it understood."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from kitmsg.testing.metrics import Observed
from tests import peers
from tests.discovery.systems.program import Program
from tests.metrics.receivers.buckets import quantile
from tests.metrics.receivers.pushed import Pushed
from tests.ports import free_port

__all__ = ["Collector", "OtlpReceiver"]

_CONFIG = """\
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: "127.0.0.1:{grpc}"}}
      http: {{endpoint: "127.0.0.1:{http}"}}
exporters:
  otlp_http:
    endpoint: "http://127.0.0.1:{out}"
    encoding: json
    compression: none
    sending_queue: {{enabled: false}}
    retry_on_failure: {{enabled: false}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    metrics: {{receivers: [otlp], exporters: [otlp_http]}}
"""


class Collector:
    """The server, and the place that it sends to."""

    def __init__(self) -> None:
        self.grpc, self.http = free_port(), free_port()
        self.last: list[dict[str, Any]] = []  # resources of the last message
        self.all: list[dict[str, Any]] = []  # of all messages

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:  # noqa: N805
                body = handler.rfile.read(int(handler.headers["Content-Length"]))
                self.last = json.loads(body)["resourceMetrics"]
                self.all += self.last
                handler.send_response(200)
                handler.send_header("Content-Type", "application/json")
                handler.send_header("Content-Length", "2")
                handler.end_headers()
                handler.wfile.write(b"{}")

            def log_message(handler, *_: object) -> None:  # noqa: N805
                pass

        out = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=out.serve_forever, daemon=True).start()
        command = [peers.path("collector"), "--config", "config.yaml"]
        self.program = Program(command, self._is_ready)
        config = _CONFIG.format(grpc=self.grpc, http=self.http, out=out.server_port)
        (self.program.folder / "config.yaml").write_text(config)
        self.program.start()

    def metric(self, name: str) -> dict[str, Any]:
        """Return a metric of the last message; {} for none."""
        for resource in self.last:
            for scope in resource["scopeMetrics"]:
                for metric in scope["metrics"]:
                    if metric["name"] == name:
                        return dict(metric)
        return {}

    def _is_ready(self) -> bool:
        for port in (self.grpc, self.http):
            socket.create_connection(("127.0.0.1", port)).close()
        return True


class OtlpReceiver(Pushed):
    """Metrics pushed there, by gRPC or HTTP, as the collector understood them."""

    def __init__(self, server: Collector, *, by_http: bool = False) -> None:
        address = f"otlp+http://127.0.0.1:{server.http}"
        super().__init__(address if by_http else f"otlp://127.0.0.1:{server.grpc}")
        self.server = server

    async def flush(self) -> None:
        await self.push()

    def _point(self, name: str, kind: str, labels: dict[str, str]) -> dict[str, Any]:
        for point in self.server.metric(name).get(kind, {}).get("dataPoints", ()):
            pairs = point.get("attributes", ())
            own = {pair["key"]: pair["value"].get("stringValue") for pair in pairs}
            if own == labels:
                return dict(point)
        return {}

    async def counter(self, name: str, labels: dict[str, str], /) -> float:
        return float(self._point(name, "sum", labels).get("asDouble", 0.0))

    async def gauge(self, name: str, labels: dict[str, str], /) -> float:
        return float(self._point(name, "gauge", labels)["asDouble"])

    async def histogram(self, name: str, labels: dict[str, str], /) -> Observed:
        point = self._point(name, "histogram", labels)
        counts = [int(count) for count in point["bucketCounts"]]
        return Observed(
            int(point["count"]),
            point["sum"],
            {q: quantile(point["explicitBounds"], counts, q) for q in (0.5, 0.9, 0.99)},
        )
