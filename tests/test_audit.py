"""`make lint` asks about vulnerabilities, and does not need the network."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from tests.audit import audit, is_reachable

if TYPE_CHECKING:
    from collections.abc import Iterator


class Advisories(BaseHTTPRequestHandler):
    """OSV's API with one advisory, for one package."""

    def do_GET(self) -> None:
        self.send_error(404)

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        name = json.loads(self.rfile.read(length))["package"]["name"]
        affected = {
            "package": {"name": name, "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"fixed": "9999.1"}]}],
        }
        advisory = {
            "id": "PYSEC-0",
            "modified": "2026-01-01T00:00:00Z",
            "published": "2026-01-01T00:00:00Z",
            "summary": "it is old",
            "affected": [affected],
        }
        body = json.dumps({"vulns": [advisory]} if name == "msgspec" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@pytest.fixture
def service() -> Iterator[str]:
    """The address of a service that has an advisory on msgspec."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Advisories)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/query"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_vulnerable_package_fails_with_its_name(
    service: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The package, its advisory and the version that has the fix are in one line."""
    assert audit(service) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("pip-audit: msgspec ")
    assert line.endswith("has PYSEC-0; fixed in 9999.1")


def test_without_the_service_one_sentence_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing fails where nobody listens."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        assert audit(f"http://127.0.0.1:{port}/") == 0
    assert capsys.readouterr().out.count("cannot be reached") == 1


def test_a_service_that_says_nothing_is_not_waited_for() -> None:
    """A firewall that drops everything holds up no lint."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        assert not is_reachable(url, 0.2)
