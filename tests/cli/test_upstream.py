"""``kitmsg upstream http`` puts a remote API on the bus."""

from __future__ import annotations

import http.server
import json
import re
import signal
import threading
import urllib.request
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from tests.worker.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kitmsg.bus.embedded import EmbeddedServer
    from tests.cli.conftest import Ran

SPEC = {
    "openapi": "3.1.0",
    "info": {"title": "Payments", "version": "2.0.0"},
    "paths": {
        "/payments/{id}": {
            "get": {
                "operationId": "get",
                "parameters": [
                    {
                        "name": "id",
                        "in": "path",
                        "required": True,
                        "schema": {"type": "integer"},
                    }
                ],
                "responses": {},
            }
        }
    },
}


class Api(http.server.BaseHTTPRequestHandler):
    """Answers with what it was asked."""

    keys: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        self.keys.append(self.headers["X-Api-Key"])
        body = json.dumps({"path": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Keep the terminal clean."""


@pytest.fixture
def api() -> Iterator[str]:
    """Serve `Api`; gives its address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_api_is_called_like_any_service(
    api: str, nats_server: EmbeddedServer, tmp_path: Path, cli: Callable[..., Ran]
) -> None:
    """From its document, with a key out of a file; health tells; SIGTERM drains."""
    (tmp_path / "spec.json").write_text(json.dumps(SPEC))
    (tmp_path / "key").write_text("k1\n")
    words = ["-m", "kitmsg.cli", "upstream", "http", api, "--openapi", "spec.json"]
    words += ["--as", "payments", "--header", "X-Api-Key: @key", "--health", "0"]
    with Command(words, tmp_path, nats_url=nats_server.url) as command:
        command.says("payments 2.0.0 is serving")
        ran = cli("call", "payments.get", "id=7", nats_url=nats_server.url)
        assert json.loads(ran.out) == {"path": "/payments/7"}
        assert Api.keys[-1] == "k1"
        assert cli("call", "payments.get", "id=x", nats_url=nats_server.url).code == 5
        port = re.findall(r"health on port (\d+)", command.output)[0]
        with urllib.request.urlopen(
            f"http://127.0.0.1:{port}/readyz", timeout=5
        ) as ready:
            assert ready.status == 200
        command.send(signal.SIGTERM)
        assert command.ends() == 0
        command.says("is drained")


def test_a_changed_document_counts_after_sighup(
    api: str, nats_server: EmbeddedServer, tmp_path: Path, cli: Callable[..., Ran]
) -> None:
    """The worker is replaced by one that reads the document anew."""
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(SPEC))
    words = ["-m", "kitmsg.cli", "upstream", "http", api, "--openapi", "spec.json"]
    words += ["--as", "changing"]
    with Command(words, tmp_path, nats_url=nats_server.url) as command:
        command.says("changing 2.0.0 is serving")
        spec.write_text(
            json.dumps(SPEC).replace('"get", "parameters', '"find", "parameters')
        )
        command.send(signal.SIGHUP)
        command.says("is drained")
        assert cli("call", "changing.find", "id=7", nats_url=nats_server.url).code == 0
        assert cli("call", "changing.get", "id=7", nats_url=nats_server.url).code == 3


def test_a_file_that_is_no_document_ends_it_with_a_sentence(
    nats_server: EmbeddedServer, tmp_path: Path
) -> None:
    """Trying again would not help, so it does not."""
    words = ["-m", "kitmsg.cli", "upstream", "http", "http://127.0.0.1:9"]
    words += ["--openapi", "none.json", "--as", "payments"]
    with Command(words, tmp_path, nats_url=nats_server.url) as command:
        assert command.ends() == 2
        assert "cannot read none.json: No such file" in command.output
        assert "Traceback" not in command.output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["http://h"], "--as payments"),
        (["http://h", "--as", "a.b"], "use letters, digits"),
        (["http://h", "--as", "a", "--timeout", "0"], "timeout must be positive"),
        (["http://h", "--as", "a", "--header", "x"], "not of the form"),
        (["http://h", "--as", "a", "--header", "X: @/none"], "cannot read /none"),
        (
            ["http://h", "--as", "a", "--wrong"],
            "no such option --wrong; see kitmsg upstream http --help",
        ),
    ],
)
def test_a_wrong_command_is_a_sentence(
    cli: Callable[..., Ran], words: list[str], sentence: str
) -> None:
    """It says what to write instead, and nothing is started."""
    ran = cli("upstream", "http", *words)
    assert ran.code == 2
    assert sentence in ran.err
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["http"], 2, "--openapi FILE, or"),
        (["http", "http://h", "--openapi", "none.json"], 2, "cannot read none.json"),
        (["http", "--openapi", "http://127.0.0.1:1/x"], 3, ": Connection refused"),
        (["http", "--openapi", "https://127.0.0.1:1/x"], 3, ": Connection refused"),
        (["grpc", "h:1", "--proto", "nofile"], 2, "nofile"),
        (["grpc", "h:1"], 2, "--proto FILE, or --reflection"),
        (["thrift", "h:1"], 2, "--thrift FILE"),
        (["thrift", "h:1", "--thrift", "nofile"], 2, "nofile"),
    ],
)
def test_what_is_offered_is_read_before_the_bus_is_waited_for(
    cli: Callable[..., Ran], words: list[str], code: int, sentence: str
) -> None:
    """There is no bus here: a wrong command ends all the same, with one sentence."""
    pytest.importorskip(
        {"grpc": "grpc", "thrift": "thriftpy2"}.get(words[0], "aiohttp")
    )
    ran = cli("upstream", *words, "--as", "payments")
    assert ran.code == code, ran.err
    assert sentence in ran.err
    assert "ssl:" not in ran.err
    assert "Error" not in ran.err
    assert len(ran.err.splitlines()) == 1
