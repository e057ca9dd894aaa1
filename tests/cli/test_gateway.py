"""``kitmsg gateway http`` is the gateway, with its own options as flags."""

from __future__ import annotations

import dataclasses
import re
import signal
import socket
import ssl
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest
import trustme

from kitmsg_gateways.http.options import GatewayOptions
from tests.worker.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Ran


def test_has_a_flag_for_every_option(cli: Callable[..., Ran]) -> None:
    """Each option of the gateway is a flag with its help."""
    out = cli("gateway", "http", "--help").out
    for field in dataclasses.fields(GatewayOptions):
        assert f"--{field.name.replace('_', '-')}" in out
    assert "Most seconds that a client or an endpoint can ask for" in " ".join(
        out.split()
    )


def test_says_units_and_defaults(cli: Callable[..., Ran]) -> None:
    """A number's flag names its unit; lists and switches show what they are."""
    out = cli("gateway", "http", "--help").out
    for usage in ("--timeout SECONDS", "--max-body-bytes BYTES", "--max-streams N"):
        assert usage in out
    assert "(default: RS256, ES256, EdDSA)" in " ".join(out.split())
    assert "(default: yes)" in cli("gateway", "grpc", "--help").out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--port", "99999"), "'99999' is not a port (0 to 65535)"),
        (("--tls-cert", "nofile.pem"), "nofile.pem: no such file or directory"),
        (("--nats-url", "http://x"), "begin with nats:// or tls://"),
    ],
)
def test_what_is_wrong_with_the_command_is_2(
    cli: Callable[..., Ran], flags: tuple[str, ...], said: str
) -> None:
    """Arguments, files and settings that cannot be used are a sentence and 2."""
    ran = cli("gateway", "http", *flags)
    assert ran.code == 2
    assert said in ran.err


def test_serves_what_is_on_the_bus(shop: str, tmp_path: Path) -> None:
    """Services of other processes are called over HTTP; SIGTERM ends it with 0."""
    words = ["-m", "kitmsg.cli", "gateway", "http", "--port", "0"]
    with Command(words, tmp_path, nats_url=shop) as command:
        command.says("ready at")
        found = re.search(r"ready at (http://\S+)", command.output)
        assert found
        assert command.output.count(found[1]) == 1  # said once
        with urllib.request.urlopen(f"{found[1]}/price/tea", timeout=5) as response:
            assert response.read() == b"2.5"
        command.send(signal.SIGTERM)
        assert command.ends() == 0


def test_a_middleware_stands_around_its_calls(shop: str, tmp_path: Path) -> None:
    """``--middleware`` names it; it sees the endpoint and may answer for it."""
    (tmp_path / "guards.py").write_text(
        "from kitmsg.errors import NotFound\n"
        "def closed(endpoint):\n"
        "    async def call(ctx, data):\n"
        "        raise NotFound(f'{ctx.endpoint} is closed today')\n"
        "    return call\n"
        "all_of_them = [closed]\n"
    )
    words = ["-m", "kitmsg.cli", "gateway", "http", "--port", "0"]
    words += ["--middleware", "guards:all_of_them"]
    with Command(words, tmp_path, nats_url=shop) as command:
        command.says("ready at")
        found = re.search(r"ready at (http://\S+)", command.output)
        assert found
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{found[1]}/price/tea", timeout=5)
        assert caught.value.code == 404
        assert b"shop.price is closed today" in caught.value.read()


def test_ends_while_it_waits_for_the_bus(tmp_path: Path) -> None:
    """A gateway that was started before the bus ends at the first signal too."""
    words = ["-m", "kitmsg.cli", "gateway", "http", "--port", "0"]
    with Command(words, tmp_path, nats_url="nats://127.0.0.1:1") as command:
        command.says("waiting for it")
        command.send(signal.SIGINT)
        assert command.ends() == 0


def test_a_taken_port_is_a_sentence(shop: str, tmp_path: Path) -> None:
    """A port that is taken ends it with what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        words = ["-m", "kitmsg.cli", "gateway", "http", "--port", port]
        with Command(words, tmp_path, nats_url=shop) as command:
            assert command.ends() == 7
            assert f"port {port} on 127.0.0.1 is taken" in command.output


def test_a_wrong_option_is_a_sentence(cli: Callable[..., Ran]) -> None:
    """A value that the gateway refuses is named."""
    ran = cli("gateway", "http", "--timeout", "0")
    assert ran.code == 2
    assert "timeout must be positive" in ran.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tls-cert", "/nowhere.pem"], "cannot use the certificate in /nowhere.pem"),
        (["--jwt-key", "env:NO_SUCH"], "NO_SUCH is not set"),
        (["--middleware", "no_such:x"], "middleware 'no_such:x' cannot be loaded"),
        (["--middleware", "os:sep"], "'/' is no middleware"),
        (["--workers", "2", "--cors-origins", "x"], "'x' is no origin"),
    ],
)
def test_a_wrong_option_is_said_once(
    cli: Callable[..., Ran], words: list[str], said: str
) -> None:
    """Before it waits for a bus, or starts workers."""
    ran = cli("gateway", "http", *words)
    assert ran.code == 2
    assert ran.err.count(said) == 1


def test_a_hang_up_signal_reads_certificates_again(shop: str, tmp_path: Path) -> None:
    """SIGHUP: the next connection sees the new one, and the gateway goes on."""
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    cert = tmp_path / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(
        str(cert)
    )
    words = ["-m", "kitmsg.cli", "gateway", "http", "--port", "0"]
    words += ["--tls-cert", str(cert), "--reload-interval", "3600"]
    with Command(words, tmp_path, nats_url=shop) as command:
        command.says("ready at https://")
        found = re.search(r"ready at https://127.0.0.1:(\d+)", command.output)
        assert found
        address = "127.0.0.1", int(found[1])
        before = ssl.get_server_certificate(address)
        newer = authority.issue_cert("localhost")
        newer.private_key_and_cert_chain_pem.write_to_path(str(cert))
        assert ssl.get_server_certificate(address) == before
        command.send(signal.SIGHUP)
        command.says("read again")
        assert ssl.get_server_certificate(address) != before
        command.send(signal.SIGTERM)
        assert command.ends() == 0
