"""Processes that announce themselves: gateways and workers, in a real etcd."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from kitmsg.errors import InvalidArgument
from kitmsg.worker.announce import announcer, check_announcing, place_of
from kitmsg.worker.settings import Settings
from tests.discovery.systems.etcd import Etcd
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kitmsg.bus.embedded import EmbeddedServer


@pytest.fixture(scope="module")
def etcd() -> Iterator[Etcd]:
    server = Etcd()
    yield server
    server.program.kill()


def entries(etcd: Etcd, service: str) -> list[str]:
    words = ("get", "--prefix", "--print-value-only", f"/services/{service}/")
    values = etcd._run(words, "").split("\n")
    return [msgspec.json.decode(each)["address"] for each in values if each]


def until(condition: Callable[[], Any]) -> Any:
    for _ in range(600):
        if found := condition():
            return found
        time.sleep(0.05)
    pytest.fail("it never became true")


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def command(nats_server: EmbeddedServer) -> Iterator[Callable[..., Any]]:
    started: list[subprocess.Popen[bytes]] = []

    def start(*words: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "kitmsg", *words, "-s", nats_server.url]
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("more", [(), ("--workers", "2")], ids=["one", "workers"])
def test_a_gateway_is_announced_while_it_serves_and_taken_back_before_it_refuses(
    etcd: Etcd, command: Callable[..., Any], more: tuple[str, ...]
) -> None:
    service, port = f"gateway{len(more)}", free_port()
    where = f"etcd://127.0.0.1:{etcd.port}/services/{service}/"
    process = command(
        "gateway", "http", "--port", str(port), "--register", where, *more
    )
    until(lambda: entries(etcd, service) == [f"127.0.0.1:{port}"])
    assert accepts(port)
    process.send_signal(signal.SIGTERM)
    until(lambda: entries(etcd, service) == [])
    assert process.wait(20) == 0


def test_workers_are_announced_by_their_health_address_or_another(
    etcd: Etcd, command: Callable[..., Any]
) -> None:
    port = free_port()
    target = "examples/greeter.py"
    where = f"etcd://127.0.0.1:{etcd.port}/services"
    health = ("--health", str(port), "--register", f"{where}/run/")
    process = command("run", target, *health)
    until(lambda: entries(etcd, "run") == [f"127.0.0.1:{port}"])
    other = ("--register", f"{where}/other/", "--advertise", "10.9.9.9:1")
    second = command("run", target, *other)
    until(lambda: entries(etcd, "other") == ["10.9.9.9:1"])
    for each in (process, second):
        each.send_signal(signal.SIGTERM)
    assert process.wait(20) == second.wait(20) == 0
    assert entries(etcd, "run") == entries(etcd, "other") == []


def test_what_cannot_be_announced_is_told_before_anything_starts() -> None:
    for settings, sentence in (
        (Settings(advertise="a:1"), "--advertise needs --register"),
        (
            Settings(register="a:1"),
            "--register: 'a:1' has no scheme; known are consul://",
        ),
        (Settings(register="dns://a:1"), "cannot begin with dns://"),
        (Settings(register="etcd://a/b", advertise="a"), "--advertise: wrong address"),
        (
            Settings(register="etcd://a/b"),
            "say --health PORT, or --advertise HOST:PORT",
        ),
    ):
        with pytest.raises(InvalidArgument) as failed:
            check_announcing(settings, has_place=False)
        assert sentence in str(failed.value)


def test_a_process_that_listens_everywhere_announces_what_the_system_sees() -> None:
    made = announcer(Settings(register="etcd://127.0.0.1/b"), ("0.0.0.0", 80))
    assert made is not None
    assert made.name == "etcd://127.0.0.1/b (127.0.0.1:80)"
    assert announcer(Settings(), None) is None
    assert place_of("http://[::1]:80/x") == ("::1", 80)
    assert place_of("127.0.0.1:80") == ("127.0.0.1", 80)
    assert place_of("stdio") is None
