"""Real receivers of spans: Zipkin, Jaeger, and OpenTelemetry's collector."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from tests import peers
from tests.ports import free_port, free_ports
from tests.require import need
from tests.worker.commands import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Collector", "Jaeger", "Zipkin", "collector", "jaeger", "zipkin"]

_START_SECONDS = 50.0


class Zipkin:
    """A Zipkin server.

    Attributes:
        address: For ``--traces``.
    """

    def __init__(self, port: int) -> None:
        self.address = f"zipkin://127.0.0.1:{port}"
        self._url = f"http://127.0.0.1:{port}"

    def is_up(self) -> bool:
        """Tell whether it answers."""
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{self._url}/health", timeout=2) as found,
        ):
            return bool(found.status == 200)
        return False

    def trace(self, trace: str) -> list[dict[str, Any]]:
        """Return the spans of a trace; none while there are none."""
        url = f"{self._url}/api/v2/trace/{trace}"
        with (
            contextlib.suppress(urllib.error.HTTPError),
            urllib.request.urlopen(url, timeout=5) as found,
        ):
            return list(json.load(found))
        return []


@contextlib.contextmanager
def zipkin() -> Iterator[Zipkin]:
    """Run Zipkin, with its spans in memory."""
    jar, java, port = peers.path("zipkin"), need("java"), free_port()
    words = [
        *(java, "-Xmx256m", "-XX:TieredStopAtLevel=1", "-jar", jar),
        "--armeria.ports[0].ip=127.0.0.1",
        f"--armeria.ports[0].port={port}",
        "--armeria.ports[0].protocols[0]=http",
    ]
    process = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        server = Zipkin(port)
        until(server.is_up, "Zipkin is up", _START_SECONDS)
        yield server
    finally:
        process.kill()
        process.wait()


class Jaeger:
    """A Jaeger server.

    Attributes:
        address: For ``--traces``.
    """

    def __init__(self, otlp: int, query: int) -> None:
        self.address = f"otlp://127.0.0.1:{otlp}"
        self._url = f"http://127.0.0.1:{query}"

    def is_up(self) -> bool:
        """Tell whether it answers."""
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{self._url}/api/services", timeout=2) as found,
        ):
            return bool(found.status == 200)
        return False

    def trace(self, trace: str) -> list[dict[str, Any]]:
        """Return the spans of a trace, each with its ``process``; none while there are none."""
        with (
            contextlib.suppress(urllib.error.HTTPError),
            urllib.request.urlopen(f"{self._url}/api/traces/{trace}", timeout=5) as got,
        ):
            (found,) = json.load(got)["data"]
            names = {k: p["serviceName"] for k, p in found["processes"].items()}
            return [{**s, "process": names[s["processID"]]} for s in found["spans"]]
        return []


@contextlib.contextmanager
def jaeger() -> Iterator[Jaeger]:
    """Run Jaeger, with its spans in memory."""
    flags = (
        *("collector.otlp.grpc.", "query.http-server.", "collector.otlp.http."),
        *("query.grpc-server.", "admin.http.", "collector.grpc-server."),
        *("collector.http-server.", "http-server.", "processor.jaeger-binary.server-"),
        *("processor.jaeger-compact.server-", "processor.zipkin-compact.server-"),
    )
    ports = free_ports(len(flags))
    words = [peers.path("jaeger-1.35"), "--collector.otlp.enabled=true"]
    words += [
        f"--{flag}host-port=127.0.0.1:{port}"
        for flag, port in zip(flags, ports, strict=True)
    ]
    process = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        server = Jaeger(ports[0], ports[1])
        until(server.is_up, "Jaeger is up", _START_SECONDS)
        yield server
    finally:
        process.kill()
        process.wait()


class Collector:
    """OpenTelemetry's collector, and a server that it sends on to, in JSON.

    Attributes:
        grpc: Address of its OTLP over gRPC, for ``--traces``; `http`, over HTTP.
    """

    def __init__(self, grpc: int, http_: int) -> None:
        self.grpc = f"otlp://127.0.0.1:{grpc}"
        self.http = f"otlp+http://127.0.0.1:{http_}"
        self._requests: list[dict[str, Any]] = []

    def take(self, body: bytes) -> None:
        """Take a request of the collector's."""
        self._requests.append(json.loads(body))

    def spans(self) -> list[dict[str, Any]]:
        """Return all spans so far, each with its ``process`` and ``scope``."""
        return [
            {
                **span,
                "process": _attributes(of["resource"])["service.name"],
                "scope": scoped["scope"].get("name", ""),
                "facts": _attributes(span),
            }
            for request in list(self._requests)
            for of in request["resourceSpans"]
            for scoped in of["scopeSpans"]
            for span in scoped["spans"]
        ]

    def trace(self, trace: str) -> list[dict[str, Any]]:
        """Return the spans of a trace."""
        return [span for span in self.spans() if span["traceId"] == trace]


def _attributes(of: dict[str, Any]) -> dict[str, Any]:
    pairs = of.get("attributes", [])
    return {pair["key"]: next(iter(pair["value"].values())) for pair in pairs}


@contextlib.contextmanager
def collector(folder: Path) -> Iterator[Collector]:
    """Run a collector that passes on what it gets."""
    program = peers.path("collector")
    grpc, http_ = free_port(), free_port()
    found = Collector(grpc, http_)

    class Sink(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            pass

    sink = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    config = {
        "receivers": {
            "otlp": {
                "protocols": {
                    "grpc": {"endpoint": f"127.0.0.1:{grpc}"},
                    "http": {"endpoint": f"127.0.0.1:{http_}"},
                }
            }
        },
        "exporters": {
            "otlphttp": {
                "endpoint": f"http://127.0.0.1:{sink.server_port}",
                "encoding": "json",
                "compression": "none",
                "sending_queue": {"enabled": False},
            }
        },
        "service": {
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["otlphttp"]}},
        },
    }
    path = folder / "collector.json"
    path.write_text(json.dumps(config))  # YAML, as any JSON is
    with (folder / "collector.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "--config", str(path)], stdout=log, stderr=log
        )
    try:
        until(lambda: _listens(grpc), "the collector listens", _START_SECONDS)
        yield found
    finally:
        process.kill()
        process.wait()
        sink.shutdown()
        sink.server_close()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
