"""A push loop sends all that a scrape shows: by a worker, a gateway, a program of its own."""

from __future__ import annotations

import re
import signal
import urllib.request
from typing import TYPE_CHECKING

import pytest

import kitmsg
from kitmsg.bus.memory import MemoryBus
from kitmsg.metrics.prometheus import render
from kitmsg.metrics.push import pushing
from tests.metrics.receivers.collector import Collector
from tests.metrics.receivers.started import started
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
OF_EACH_PART = {
    "kitmsg_server_requests_total",
    "kitmsg_server_duration_seconds",
    "kitmsg_server_in_flight",
    "kitmsg_client_requests_total",
    "kitmsg_client_duration_seconds",
    "kitmsg_client_in_flight",
    "kitmsg_circuit_state",
    "kitmsg_bus_connected",
    "kitmsg_worker_memory_bytes",
    "till_opened_total",
}


@pytest.fixture
def address() -> str:
    return f"otlp://127.0.0.1:{started(Collector).grpc}?interval=3600"


def pushed() -> set[str]:
    """Return the names of the families with samples in the last message."""
    return {
        metric["name"]
        for resource in started(Collector).last
        for scope in resource["scopeMetrics"]
        for metric in scope["metrics"]
        if any(metric.get(kind) for kind in ("sum", "gauge", "histogram"))
    }


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


async def test_a_gateway_pushes_what_its_page_shows(
    nats_server: EmbeddedServer, tmp_path: Path, address: str
) -> None:
    """And its connection and process, which a page has only where there is a worker."""
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
    assert "kitmsg_gateway_requests_total" in page
    beside = {"kitmsg_bus_connected", "kitmsg_worker_memory_bytes"}
    assert pushed() >= page | beside


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
