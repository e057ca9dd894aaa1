"""EmbeddedServer: it starts, tells why it does not, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from kitmsg.bus.embedded import EmbeddedServer, find_server
from kitmsg.bus.nats import NatsBus
from kitmsg.errors import FailedPrecondition, Unavailable

# Starts a server, says its pid and folder, and waits to be killed.
CHILD = """
import sys, threading
from kitmsg.bus.embedded import EmbeddedServer
server = EmbeddedServer()
thread = threading.Thread(target=server.start)
thread.start()
thread.join()
print(server.pid, server._folder, flush=True)
sys.stdin.read()
"""


def wait_until_gone(pid: int, folder: Path) -> None:
    """Wait for the end of a process that is not our child, and of a folder."""
    until = time.monotonic() + 20
    while psutil.pid_exists(pid) or folder.exists():
        if psutil.pid_exists(pid) and psutil.Process(pid).status() == "zombie":
            return
        assert time.monotonic() < until, "it is still there"
        time.sleep(0.01)


async def test_serves_until_stopped() -> None:
    """Clients can connect at once; afterwards no process and no folder is left."""
    async with EmbeddedServer() as server:
        pid, folder = server.pid, server._folder
        assert folder is not None
        assert folder.exists()
        bus = await NatsBus.connect(server.url)
        info = await bus.client.jetstream().account_info()
        assert info.streams == 0
        await bus.close()
    assert not psutil.pid_exists(pid)
    assert not folder.exists()
    server.stop()


def test_leaves_no_guard_behind() -> None:
    """The shell that watches over the server ends with it."""
    before = {p.pid for p in psutil.Process().children()}
    with EmbeddedServer(jetstream=False):
        assert len({p.pid for p in psutil.Process().children()} - before) == 2
    assert {p.pid for p in psutil.Process().children()} - before == set()


def test_listens_on_loopback_only() -> None:
    """Nobody else on the network sees it."""
    with EmbeddedServer(monitor=True) as server:
        listening = psutil.Process(server.pid).net_connections("tcp")
        assert {c.laddr.ip for c in listening if c.status == "LISTEN"} == {"127.0.0.1"}


def test_monitoring_is_an_option() -> None:
    """With `monitor`, the server's own health page answers."""
    with (
        EmbeddedServer(monitor=True) as server,
        urllib.request.urlopen(f"{server.monitor_url}/healthz") as answer,
    ):
        assert answer.status == 200


async def test_restart_keeps_port_and_store() -> None:
    """After a crash, clients find the same address and the same streams."""
    with EmbeddedServer() as server:
        bus = await NatsBus.connect(server.url)
        js = bus.client.jetstream()
        await js.add_stream(name="KEPT", subjects=["kept"])
        await js.publish("kept", b"1")
        await bus.close()
        url, pid = server.url, server.pid
        server.kill()
        assert not psutil.pid_exists(pid)
        server.restart()
        assert server.url == url
        assert server.pid != pid
        bus = await NatsBus.connect(server.url)
        state = (await bus.client.jetstream().stream_info("KEPT")).state
        assert state.messages == 1
        await bus.close()


def test_takes_a_wished_port() -> None:
    """A port can be asked for; one that is taken is said, in the server's words."""
    with EmbeddedServer(jetstream=False) as first:
        port = int(first.url.rpartition(":")[2])
        with pytest.raises(Unavailable, match="address already in use"):
            EmbeddedServer(port=port, jetstream=False).start()
    with EmbeddedServer(port=port, jetstream=False) as second:
        assert second.url == f"nats://127.0.0.1:{port}"


def test_shows_why_it_did_not_start(tmp_path: Path) -> None:
    """A bad configuration ends in the server's own last words, and no folder."""
    server = EmbeddedServer(config="nonsense {")
    with pytest.raises(Unavailable, match=r"ended at once: .*Parse error"):
        server.start()
    assert server._folder is None
    server.stop()


def test_says_when_it_is_used_wrongly() -> None:
    """Twice started or not running is said."""
    server = EmbeddedServer(jetstream=False)
    with pytest.raises(FailedPrecondition, match="does not run"):
        server.kill()
    with pytest.raises(FailedPrecondition, match="does not run"):
        _ = server.pid
    with server, pytest.raises(FailedPrecondition, match="runs already"):
        server.start()


def test_stops_when_paused() -> None:
    """A frozen server is woken up to be stopped."""
    with EmbeddedServer(jetstream=False) as server:
        pid = server.pid
        server.pause()
        assert psutil.Process(pid).status() == psutil.STATUS_STOPPED
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM])
def test_dies_with_its_parent(sig: signal.Signals) -> None:
    """However the parent ends, the server and its folder go; its thread may end."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    pid, folder = child.stdout.readline().decode().split()
    assert psutil.pid_exists(int(pid))
    child.send_signal(sig)
    child.communicate()
    wait_until_gone(int(pid), Path(folder))


def test_survives_the_interrupt_of_its_parent() -> None:
    """Ctrl-C in the terminal reaches the parent alone, which still has to drain."""
    with EmbeddedServer(jetstream=False) as server:
        assert os.getpgid(server.pid) != os.getpgid(0)


def test_finds_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument, then NATS_SERVER, then PATH, then the wheel."""
    own = tmp_path / "nats-server"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.delenv("NATS_SERVER", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    wheel = find_server()
    assert Path(wheel).is_file()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server() == str(own)
    monkeypatch.setenv("NATS_SERVER", wheel)
    assert find_server() == wheel
    assert find_server(str(own)) == str(own)


def test_says_how_to_get_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server the message names the extra; a wrong path is named."""
    monkeypatch.setenv("NATS_SERVER", "/nowhere/nats-server")
    with pytest.raises(FailedPrecondition, match="'/nowhere/nats-server' is not a"):
        find_server()
    monkeypatch.delenv("NATS_SERVER")
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("sysconfig.get_path", lambda _: "/nowhere")
    with pytest.raises(FailedPrecondition, match=r"pip install 'kitmsg\[server\]'"):
        find_server()


def test_it_notices_soon_that_a_client_is_gone() -> None:
    """A connection whose other end died without a word is of no use to a queue group."""
    with (
        EmbeddedServer(jetstream=False, monitor=True) as server,
        urllib.request.urlopen(f"{server.monitor_url}/varz") as varz,
    ):
        assert json.load(varz)["ping_interval"] == 5_000_000_000
