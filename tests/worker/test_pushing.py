"""``--metrics ADDRESS``: what processes count comes to a receiver, and the user's own too."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

import kitmsg
from tests.metrics.receivers.exporter import StatsDExporter
from tests.metrics.receivers.started import started
from tests.ports import free_port
from tests.worker.commands import Command, until
from tests.worker.test_health import ask, port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kitmsg.bus.embedded import EmbeddedServer

__all__ = ["port"]

SHOP = """
from kitmsg import Service, endpoint
from kitmsg.metrics import Provider


class {name}(Service):
    name = "{service}"

    def __init__(self, metrics: Provider) -> None:
        self.sold = metrics.counter("{service}_sold_total", "Sold.", labels=("what",))
        self.paid = metrics.histogram("{service}_paid_euros", bounds=(10, 100))

    @endpoint
    async def sell(self, what: str, euros: float) -> None:
        self.sold.labels(what=what).add()
        self.paid.observe(euros)
"""
ROUTE = ("--as", "h", "--route", "get=GET /it")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def shop(tmp_path: Path) -> str:
    """A service with metrics of its own; its name is that of no other test."""
    service = f"shop{tmp_path.name[-12:]}".replace("-", "").lower()
    service = re.sub(r"\W", "", service)
    (tmp_path / "shop.py").write_text(SHOP.format(name="Shop", service=service))
    return service


def received(name: str) -> dict[str, float]:
    """Return the lines of the receiver's page that begin with a name."""
    lines = started(StatsDExporter).page().splitlines()
    found = [line for line in lines if line.startswith(name)]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in found}


async def test_a_worker_pushes_what_it_counts_and_what_users_count(
    start: Callable[..., Command], nats_server: EmbeddedServer, shop: str
) -> None:
    """The last flush is at the end of the drain: nothing that was counted is lost."""
    place = f"127.0.0.1:{started(StatsDExporter).port}"
    address = f"dogstatsd://{place}?interval=3600&prefix={shop}"
    with start("shop:Shop", "--metrics", address) as command:
        command.says("is serving as")
        async with kitmsg.connect(nats_server.url) as kit:
            for what in ("tea", "tea", "cup"):
                await kit.call(f"{shop}.sell", {"what": what, "euros": 5})
        command.send(signal.SIGTERM)
        command.ends()
    until(
        lambda: bool(received(f"{shop}_kitmsg_worker_memory_bytes")), "the last flush"
    )
    labels = f'process="{shop}",what="{{}}",worker="1"'
    assert received(f"{shop}_{shop}_sold_total") == {
        f"{shop}_{shop}_sold_total{{{labels.format('tea')}}}": 2,
        f"{shop}_{shop}_sold_total{{{labels.format('cup')}}}": 1,
    }
    assert sum(received(f"{shop}_{shop}_paid_euros_count").values()) == 3
    assert sum(received(f"{shop}_kitmsg_server_requests_total").values()) == 3
    assert sum(received(f"{shop}_kitmsg_server_duration_seconds_count").values()) == 3
    assert sum(received(f"{shop}_kitmsg_bus_connected").values()) == 1


@pytest.mark.parametrize("more", [(), ("--workers", "2")], ids=["alone", "two"])
async def test_a_gateway_pushes_what_it_counts(
    more: tuple[str, ...], nats_server: EmbeddedServer, tmp_path: Path, shop: str
) -> None:
    """In one process, and in several under a parent."""
    shop += f"g{len(more)}"
    place = f"127.0.0.1:{started(StatsDExporter).port}"
    (tmp_path / "pyproject.toml").write_text(
        "[tool.kitmsg]\nmetrics = ["
        f'"prometheus", "dogstatsd://{place}?interval=3600&prefix={shop}"]\n'
    )
    words = ["-m", "kitmsg.cli", "gateway", "http", "--port", "0", *more]
    with Command(words, tmp_path, nats_url=nats_server.url) as command:
        command.says("ready at", max(1, len(more)))
        found = re.search(r"ready at (http://\S+)", command.output)
        assert found
        with urllib.request.urlopen(f"{found[1]}/healthz", timeout=5) as answer:
            assert answer.status == 200
        command.send(signal.SIGTERM)
        command.ends()
    name = f"{shop}_kitmsg_gateway_requests_total"
    until(lambda: bool(received(name)), "the last flush")
    assert sum(received(name).values()) == 1
    assert all('process="http"' in each for each in received(name))


async def test_an_upstream_pushes_what_it_counts(
    nats_server: EmbeddedServer, tmp_path: Path, shop: str
) -> None:
    """By its name on the bus, as any service."""
    (tmp_path / "spec.json").write_text(
        '{"openapi": "3.1.0", "info": {"title": "Api", "version": "1.0.0"}, "paths":'
        ' {"/it": {"get": {"operationId": "get", "responses": {}}}}}'
    )
    place = f"127.0.0.1:{started(StatsDExporter).port}"
    words = ["-m", "kitmsg.cli", "upstream", "http", "http://127.0.0.1:9"]
    words += ["--openapi", "spec.json", "--as", shop, "--metrics"]
    words += [f"dogstatsd://{place}?interval=3600&prefix={shop}"]
    with Command(words, tmp_path, nats_url=nats_server.url) as command:
        command.says("is serving")
        async with kitmsg.connect(nats_server.url) as kit:
            with pytest.raises(kitmsg.errors.Unavailable):
                await kit.call(f"{shop}.get", {})
        command.send(signal.SIGTERM)
        command.ends()
    name = f"{shop}_kitmsg_server_errors_total"
    until(lambda: bool(received(name)), "the last flush")
    (series,) = received(name)
    assert f'code="unavailable",endpoint="{shop}.get",process="{shop}"' in series


async def test_dev_pushes_what_services_and_gateways_count(
    nats_server: EmbeddedServer, tmp_path: Path, shop: str
) -> None:
    """Each under its own process: a call by HTTP is counted at both."""
    place = f"127.0.0.1:{started(StatsDExporter).port}"
    address = f"dogstatsd://{place}?interval=3600&prefix={shop}"
    words = ["-m", "kitmsg.cli", "dev", "shop.py", "--http", str(free_port())]
    words += ["--metrics", address, "--no-reload"]
    with Command(words, tmp_path, nats_url=nats_server.url) as command:
        command.says("Ctrl-C ends it")
        found = re.search(r"HTTP\s+(http://\S+)", command.output)
        assert found, command.output
        request = urllib.request.Request(
            f"{found[1]}/{shop}/sell",
            data=b'{"what": "tea", "euros": 5}',
            headers={"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=5).close()
        command.interrupt()
        command.ends()
    counted = {
        process: f"{shop}_kitmsg_{side}_requests_total"
        for process, side in ((shop, "server"), ("http", "gateway"))
    }
    until(lambda: all(map(received, counted.values())), "the last flush of each")
    for process, name in counted.items():
        of = {each: n for each, n in received(name).items() if f"{shop}.sell" in each}
        ((series, count),) = of.items()
        assert count == 1
        assert f'process="{process}"' in series


async def test_the_page_has_users_metrics_exemplars_and_json(
    start: Callable[..., Command], nats_server: EmbeddedServer, shop: str, port: int
) -> None:
    """``/metrics`` in OpenMetrics shows which trace was there; ``/debug/vars`` is JSON."""
    with start("shop:Shop", "--health", str(port)) as command:
        command.says("is serving as")
        async with kitmsg.connect(nats_server.url) as kit:
            client_headers = {"traceparent": TRACE}
            request = {"what": "tea", "euros": 50}
            endpoint: Any = kit.client(_declared(shop), metadata=client_headers)
            await endpoint.sell(**request)
        accept = {
            "Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
        }
        url = f"http://127.0.0.1:{port}/metrics"
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=accept)
        ) as page:
            assert page.headers["Content-Type"].startswith(
                "application/openmetrics-text"
            )
            families = {
                family.name: family
                for family in text_string_to_metric_families(  # type: ignore[no-untyped-call]
                    page.read().decode()
                )
            }
        for name in (f"{shop}_paid_euros", "kitmsg_server_duration_seconds"):
            samples = families[name].samples
            (exemplar,) = [each.exemplar for each in samples if each.exemplar]
            trace = {"trace_id": TRACE[3:35], "span_id": TRACE[36:52]}
            assert exemplar.labels == trace
        assert (
            f'{shop}_sold_total{{worker="1",what="tea"}} 1' in ask(port, "/metrics")[1]
        )
        shown = json.loads(ask(port, "/debug/vars")[1])
        assert shown[f"{shop}_sold_total"] == {"worker=1,what=tea": 1.0}


def _declared(shop: str) -> type[kitmsg.Service]:
    names: dict[str, object] = {}
    source = SHOP.format(name="Remote", service=shop)
    exec(compile(source, "remote.py", "exec"), names)
    found = names["Remote"]
    assert isinstance(found, type)
    return found


@pytest.mark.parametrize(
    ("verb", "words", "sentence"),
    [
        ("run", ("--metrics", "stasd://h"), "is no address of metrics"),
        ("run", ("--metrics", "statsd://h?x=1"), "has an unknown option 'x'"),
        ("dev", ("--metrics", "influx+http://h"), "names no database; add ?db=NAME"),
        ("gateway", ("http", "--metrics", "otlp://"), "names no host"),
        (
            "upstream",
            ("http", "http://h", *ROUTE, "--metrics", "graphite://"),
            "names no host",
        ),
        (
            "run",
            ("--metrics", "statsd://h", "--metrics", "statsd://h"),
            "names one address twice",
        ),
    ],
)
def test_an_address_that_cannot_be_used_ends_the_command(
    verb: str, words: tuple[str, ...], sentence: str, tmp_path: Path, shop: str
) -> None:
    """With one sentence, before anything starts."""
    target = [] if verb in ("gateway", "upstream") else ["shop.py"]
    command = [sys.executable, "-m", "kitmsg.cli", verb, *words, *target]
    ran = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, check=False, timeout=30
    )
    assert ran.returncode == 2
    assert sentence in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1
