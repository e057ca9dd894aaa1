"""A push loop sends all that a scrape shows: by a worker, a gateway, a program of its own."""

from __future__ import annotations

import re
import signal
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

import kitmsg
from kitmsg.bus.memory import MemoryBus
from kitmsg.metrics.families import joined
from kitmsg.metrics.memory import MemoryMetrics
from kitmsg.metrics.prometheus import render
from kitmsg.metrics.push import pushing
from tests.metrics.receivers.collector import Collector
from tests.metrics.receivers.started import started
from tests.ports import free_port
from tests.worker.commands import Command
from tests.worker.test_health import ask, port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kitmsg.bus.embedded import EmbeddedServer

__all__ = ["port"]

CODE = """
import asyncio
import sys

import kitmsg
from kitmsg import Service, endpoint
from kitmsg.errors import Unavailable
from kitmsg.metrics import Provider
from kitmsg.metrics.push import pushing
from kitmsg.middleware.breaker import breaker


class Till(Service):
    def __init__(self, metrics: Provider) -> None:
        self.opened = metrics.counter("till_opened_total")

    @endpoint(middleware=[breaker(failures=1)])
    async def open(self, fails: bool = False) -> None:
        self.opened.add()
        if fails:
            raise Unavailable("jammed")


class Shop(Service):
    def __init__(self, till: Till) -> None:
        self.till = till

    @endpoint
    async def sell(self) -> None:
        await self.till.open()


async def main() -> None:
    async with pushing(sys.argv[1]) as metrics, kitmsg.connect(metrics=metrics) as kit:
        await kit.serve(Till)
        await kit.serve(Shop)
        await work(kit)


async def work(kit: kitmsg.Kit) -> None:
    await kit.client(Shop).sell()
    try:
        await kit.client(Till).open(fails=True)
    except Unavailable:
        pass


if __name__ == "__main__":
    asyncio.run(main())
"""
OF_EACH_PROCESS = {
    "kitmsg_bus_connected",
    "kitmsg_bus_reconnects_total",
    "kitmsg_bus_refused_total",
    "kitmsg_bus_late_replies_total",
    "kitmsg_bus_dropped_total",
    "kitmsg_worker_memory_bytes",
    "kitmsg_worker_cpu_seconds_total",
}
OF_EACH_PART = {
    "kitmsg_server_requests_total",
    "kitmsg_server_duration_seconds",
    "kitmsg_server_in_flight",
    "kitmsg_client_requests_total",
    "kitmsg_client_duration_seconds",
    "kitmsg_client_in_flight",
    "kitmsg_circuit_state",
    "till_opened_total",
    *OF_EACH_PROCESS,
}


@pytest.fixture
def address() -> str:
    return f"otlp://127.0.0.1:{started(Collector).grpc}?interval=3600"


def pushed(process: str = "") -> set[str]:
    """Return the names of the families with samples in the last message.

    Args:
        process: Of all that this part of a program has sent instead.
    """
    found = started(Collector)
    return {
        metric["name"]
        for resource in (found.all if process else found.last)
        for scope in resource["scopeMetrics"]
        for metric in scope["metrics"]
        for kind in ("sum", "gauge", "histogram")
        for point in metric.get(kind, {}).get("dataPoints", ())
        if not process or _label(point, "process") == process
    }


def _label(point: dict[str, Any], name: str) -> str:
    pairs = {pair["key"]: pair["value"] for pair in point["attributes"]}
    return str(pairs.get(name, {}).get("stringValue", ""))


def shown(page: str) -> set[str]:
    """Return the names of the families with samples on a page."""
    histograms = set(re.findall(r"^# TYPE (\S+) histogram", page, re.MULTILINE))
    samples = set(re.findall(r"^([a-z]\w*)[{ ]", page, re.MULTILINE))
    parts = {f"{n}{end}" for n in histograms for end in ("_bucket", "_sum", "_count")}
    return (samples - parts) | {n for n in histograms if f"{n}_count" in samples}


async def test_a_worker_pushes_what_its_page_shows(
    start: Callable[..., Command],
    nats_server: EmbeddedServer,
    folder: Path,
    port: int,
    address: str,
) -> None:
    (folder / "shop.py").write_text(CODE)
    words = ("shop:Shop", "shop:Till", "--health", str(port), "--metrics", address)
    with start(*words) as command:
        command.says("is serving as", 2)
        async with kitmsg.connect(nats_server.url) as kit:
            await kit.call("shop.sell")
            with pytest.raises(kitmsg.errors.Unavailable):
                await kit.call("till.open", fails=True)
        page = shown(ask(port, "/metrics")[1])
        command.send(signal.SIGTERM)
        command.ends()
    assert page >= OF_EACH_PART
    assert pushed() == page


@pytest.mark.parametrize("kind", ["http", "grpc", "thrift", "mcp"])
@pytest.mark.parametrize("page_of", ["--metrics-port", "--health"])
async def test_a_gateway_pushes_what_its_page_shows(
    nats_server: EmbeddedServer,
    tmp_path: Path,
    port: int,
    address: str,
    kind: str,
    page_of: str,
) -> None:
    """With its connection and its process, alone and below a supervisor."""
    flags = ["--port", "0", page_of, str(port), "--metrics", address]
    words = ["-m", "kitmsg.cli", "gateway", kind, *flags]
    with Command(words, tmp_path, nats_url=nats_server.url) as command:
        command.says("ready at")
        page = shown(ask(port, "/metrics")[1])
        command.send(signal.SIGTERM)
        command.ends()
    assert page >= {"kitmsg_gateway_endpoints", *OF_EACH_PROCESS}
    assert pushed() == page


async def test_the_http_gateways_other_page_shows_the_same(
    nats_server: EmbeddedServer, tmp_path: Path, address: str
) -> None:
    words = ["-m", "kitmsg.cli", "gateway", "http", "--port", "0", "--metrics", address]
    with Command(words, tmp_path, nats_url=nats_server.url) as command:
        command.says("ready at")
        found = re.search(r"ready at (http://\S+)", command.output)
        assert found
        urllib.request.urlopen(f"{found[1]}/healthz", timeout=5).close()
        with urllib.request.urlopen(f"{found[1]}/metrics", timeout=5) as answer:
            page = shown(answer.read().decode())
        command.send(signal.SIGTERM)
        command.ends()
    assert page >= {"kitmsg_gateway_requests_total", *OF_EACH_PROCESS}
    assert pushed() == page


def test_dev_pushes_what_the_page_of_its_gateway_shows(
    folder: Path, port: int, address: str
) -> None:
    (folder / "shop.py").write_text(CODE)
    started(Collector).all.clear()
    words = ["-m", "kitmsg.cli", "dev", "shop:Shop", "shop:Till", "--metrics", address]
    words += ["--http", str(port), "--nats", str(free_port())]
    with Command(words, folder) as command:
        command.says("Ctrl-C ends it")
        ask(port, "/healthz")
        page = shown(ask(port, "/metrics")[1])
        command.send(signal.SIGINT)
        command.ends()
    assert page >= {"kitmsg_gateway_endpoints", *OF_EACH_PROCESS}
    assert pushed("http") == page


async def test_an_upstream_pushes_what_its_page_shows(
    start: Callable[..., Command],
    nats_server: EmbeddedServer,
    tmp_path: Path,
    port: int,
    address: str,
) -> None:
    """The server behind it is a gateway, whose page answers the call."""
    run = ["-m", "kitmsg.cli"]
    words = [*run, "gateway", "http", "--port", "0"]
    with Command(words, tmp_path, nats_url=nats_server.url) as behind:
        behind.says("ready at")
        found = re.search(r"ready at (http://\S+)", behind.output)
        assert found
        words = [*run, "upstream", "http", found[1], "--as", "far"]
        words += ["--route", "health=GET /healthz"]
        words += ["--health", str(port), "--metrics", address]
        with Command(words, tmp_path, nats_url=nats_server.url) as command:
            command.says("is serving as")
            async with kitmsg.connect(nats_server.url) as kit:
                await kit.call("far.health")
            page = shown(ask(port, "/metrics")[1])
            command.send(signal.SIGTERM)
            command.ends()
    assert page >= {"kitmsg_upstream_requests_total", *OF_EACH_PROCESS}
    assert pushed() == page


async def test_a_program_of_its_own_pushes_what_a_worker_does(
    nats_server: EmbeddedServer, tmp_path: Path, address: str
) -> None:
    (tmp_path / "shop.py").write_text(CODE)
    words = ["shop.py", address]
    with Command(words, tmp_path, nats_url=nats_server.url) as command:
        assert command.ends() == 0, command.output
    assert pushed() >= OF_EACH_PART


async def test_two_instances_of_a_service_are_one_series() -> None:
    """As Prometheus wants it, which refuses a page that has a series twice."""

    class Bell(kitmsg.Service):
        @kitmsg.endpoint
        async def ring(self) -> None: ...

    async with (
        pushing() as metrics,
        kitmsg.connect(bus=MemoryBus(), metrics=metrics) as kit,
    ):
        await kit.serve(Bell())
        await kit.serve(Bell())
        for _ in range(4):
            await kit.client(Bell).ring()
        page = render(metrics.collect())
        labels = 'service="bell",endpoint="bell.ring",worker="1",code="ok"'
        assert [s for s in page.splitlines() if "server_requests_total{" in s] == [
            f"kitmsg_server_requests_total{{{labels}}} 4"
        ]
        series = [line.rpartition(" ")[0] for line in page.splitlines()]
        assert len(series) == len(set(series))


def values(metrics: MemoryMetrics) -> dict[str, float]:
    """Return the value of each family that has one series."""
    return {
        family.name: family.samples[0][1]
        for family in joined(metrics.collect())
        if len(family.samples) == 1
    }


async def test_two_kits_of_a_program_are_one_process() -> None:
    """Which has one memory; it reaches the bus while both do."""
    bus = MemoryBus()
    async with (
        pushing() as metrics,
        kitmsg.connect(bus=MemoryBus(), metrics=metrics) as one,
        kitmsg.connect(bus=bus, metrics=metrics) as two,
    ):
        alone, both = {f.name: f for f in one.collect()}, values(metrics)
        memory = "kitmsg_worker_memory_bytes"
        assert both[memory] < 1.5 * alone[memory].samples[0][1]
        assert both["kitmsg_bus_connected"] == 1
        bus.disconnect()
        assert values(metrics)["kitmsg_bus_connected"] == 0
        bus.reconnect()
        await two.close()
        assert values(metrics)["kitmsg_bus_connected"] == 1


async def test_a_kits_families_are_there_once_whoever_registered_them() -> None:
    class Bell(kitmsg.Service):
        @kitmsg.endpoint
        async def ring(self) -> None: ...

    metrics = MemoryMetrics()
    async with kitmsg.connect(bus=MemoryBus(), metrics=metrics) as kit:
        metrics.register(kit.collect)
        await kit.serve(Bell())
        await kit.client(Bell).ring()
        for found in (joined(metrics.collect()), kit.collect_all()):
            (calls,) = (f for f in found if f.name == "kitmsg_server_requests_total")
            assert [value for _, value in calls.samples] == [1]
