"""A platform can ask a parent process whether it lives, serves, and how it does."""

from __future__ import annotations

import json
import signal
import socket
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

import kitmsg
from kitmsg.bus.embedded import EmbeddedServer
from tests.worker.commands import Command, until

if TYPE_CHECKING:
    from collections.abc import Callable


def ask(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    """Return the status and body of a page; 0 while nobody listens."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read().decode()
    except OSError:
        return 0, ""


@pytest.fixture
def port() -> int:
    """A port that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_says_who_serves(start: Callable[..., Command], port: int) -> None:
    """/readyz turns 200 with each worker's state, and /healthz is 200 with it."""
    with start("office:Desk", "--workers", "2", "--health", str(port)) as command:
        command.says("is serving as", 2)
        until(lambda: ask(port, "/readyz")[0] == 200, "ready")
        states = json.loads(ask(port, "/readyz")[1])["workers"]
        assert [each["worker"] for each in states] == [1, 2]
        assert {each["pid"] for each in states} == {p.pid for p in command.workers()}
        assert ask(port, "/healthz")[0] == 200
        assert ask(port, "/elsewhere")[0] == 404
        assert ask(port, "/healthz", "POST")[0] == 405
        assert ask(port, "/healthz", "HEAD") == (200, "")


async def test_is_not_ready_without_a_bus(
    start: Callable[..., Command], port: int
) -> None:
    """While the bus is missing the parent is healthy but not ready."""
    with (
        socket.socket() as probe,
        start(
            "office:Desk", "--health", str(port), nats_url=_deaf_address(probe)
        ) as command,
    ):
        command.says("waiting for it")
        assert ask(port, "/healthz")[0] == 200
        status, body = ask(port, "/readyz")
        assert status == 503
        assert json.loads(body)["workers"][0]["state"] == "starting"


def _deaf_address(probe: socket.socket) -> str:
    probe.bind(("127.0.0.1", 0))  # bound, but nobody listens
    return f"nats://127.0.0.1:{probe.getsockname()[1]}"


async def test_is_not_ready_while_the_bus_is_lost(
    start: Callable[..., Command], port: int
) -> None:
    """When the bus goes, /readyz says disconnected; when it is back, ready."""
    with EmbeddedServer() as server:
        args = ("office:Desk", "--health", str(port))
        with start(*args, nats_url=server.url) as command:
            command.says("is serving as")
            until(lambda: ask(port, "/readyz")[0] == 200, "ready")
            server.kill()
            until(lambda: '"disconnected"' in ask(port, "/readyz")[1], "disconnected")
            assert ask(port, "/readyz")[0] == 503
            assert ask(port, "/healthz")[0] == 200
            server.restart()
            until(lambda: ask(port, "/readyz")[0] == 200, "ready again")
            assert (
                'kitmsg_bus_reconnects_total{worker="1"} 1' in ask(port, "/metrics")[1]
            )


async def test_is_not_healthy_while_a_worker_stands_still(
    start: Callable[..., Command], nats_server: EmbeddedServer, port: int
) -> None:
    """A worker whose event loop stands still makes /healthz 503."""
    args = ("office:Desk", "--health", str(port), "--watchdog", "0")
    with start(*args) as command:
        command.says("is serving as")
        async with kitmsg.connect(nats_server.url) as kit:
            with pytest.raises(kitmsg.KitError):
                await kit.call("desk.stand_still", timeout=0.1)
        until(lambda: ask(port, "/healthz")[0] == 503, "not healthy")
        assert ask(port, "/readyz")[0] == 503
        command.send(signal.SIGTERM)
        until(lambda: ask(port, "/readyz")[0] != 200, "not ready")
        command.send(signal.SIGTERM)
        command.ends()


async def test_is_not_ready_while_the_threads_of_a_service_hang(
    start: Callable[..., Command], nats_server: EmbeddedServer, port: int
) -> None:
    """A service whose threads all hang is named, and not ready; the worker is healthy."""
    args = ("office:Hanging", "office:Desk", "--health", str(port))
    with start(*args) as command:
        command.says("is serving as", 2)
        until(lambda: ask(port, "/readyz")[0] == 200, "ready")
        async with kitmsg.connect(nats_server.url) as kit:
            for _ in range(2):
                with pytest.raises(kitmsg.KitError):
                    await kit.call("hanging.read", timeout=0.1)
            until(lambda: ask(port, "/readyz")[0] == 503, "not ready")
            assert await kit.call("desk.pid")
        (worker,) = json.loads(ask(port, "/readyz")[1])["workers"]
        assert worker["stuck"] == ["hanging"]
        assert ask(port, "/healthz")[0] == 200
        assert (
            'kitmsg_server_held{service="hanging",worker="1"} 2'
            in ask(port, "/metrics")[1]
        )


async def test_counts_as_prometheus_reads(
    start: Callable[..., Command], nats_server: EmbeddedServer, port: int
) -> None:
    """/metrics has each endpoint's counters, parsed by Prometheus's own client."""
    parser = pytest.importorskip("prometheus_client.parser")
    with start("office:Desk", "--health", str(port)) as command:
        command.says("is serving as")
        async with kitmsg.connect(nats_server.url) as kit:
            for _ in range(3):
                await kit.call("desk.pid")
        text = ask(port, "/metrics")[1]
        found: dict[str, dict[tuple[Any, ...], float]] = {}
        for family in parser.text_string_to_metric_families(text):
            for sample in family.samples:
                labels = tuple(sorted(sample.labels.items()))
                found.setdefault(sample.name, {})[labels] = sample.value
    pid = (
        *(("code", "ok"), ("endpoint", "desk.pid")),
        *(("service", "desk"), ("worker", "1")),
    )
    assert found["kitmsg_server_requests_total"][pid] == 3
    assert found["kitmsg_server_duration_seconds_count"][pid] == 3
    assert (
        found["kitmsg_server_duration_seconds_bucket"][
            tuple(sorted((*pid, ("le", "+Inf"))))
        ]
        == 3
    )
    assert found["kitmsg_bus_connected"][("worker", "1"),] == 1
    assert found["kitmsg_worker_memory_bytes"][("worker", "1"),] > 1 << 20


def test_a_taken_port_is_said(start: Callable[..., Command]) -> None:
    """A health port that is taken ends the command with a sentence."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with start("office:Desk", "--health", str(port)) as command:
            assert command.ends() != 0
            assert f"cannot serve health on 127.0.0.1:{port}" in command.output
