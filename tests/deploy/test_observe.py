"""The profile `observe`: alerts, dashboard and Prometheus as they are, without Docker.

The alerts are tried by promtool.  A real Prometheus reads a real worker and a real gateway, and
every query of the dashboard finds something there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen
from xml.etree import ElementTree

import aiohttp
import pytest
import yaml

import kitmsg
from tests.require import need
from tests.worker.commands import Command, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kitmsg.bus.embedded import EmbeddedServer

ROOT = Path(__file__).parents[2]
OBSERVE = ROOT / "deploy/observe"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, Any] = {
    name: service
    for name, service in COMPOSE["services"].items()
    if "observe" in service.get("profiles", [])
}
ALERTS: list[dict[str, Any]] = yaml.safe_load((OBSERVE / "alerts.yml").read_text())[
    "groups"
][0]["rules"]
BOARD: dict[str, Any] = json.loads((OBSERVE / "grafana/kitmsg.json").read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
QUERIES = [(p["title"], t) for p in PANELS for t in p["targets"]]
METRIC = re.compile(r"\bkitmsg_[a-z_]+")
TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACED = {"b3": f"{TRACE}-b7ad6b7169203331-1"}

CODE = """
import asyncio, threading
from collections.abc import AsyncIterator
from kitmsg import Event, Kit, Service, endpoint, subscribe
from kitmsg.balance import direct
from kitmsg.errors import Unavailable
from kitmsg.middleware import breaker, cache, rate_limit

class Ghost(Service):  # that nobody serves
    @endpoint
    async def haunt(self) -> None: ...

class Observed(Event, subject="observed.{id}"):
    id: str

class Orders(Service):
    concurrency = 4

    @subscribe(Observed)
    async def note(self, event: Observed) -> None:
        pass

    def __init__(self, kit: Kit) -> None:
        self.ghost = kit.client(Ghost, route=direct())

    @endpoint
    async def haunt(self) -> None:
        await self.ghost.haunt()

    @endpoint
    async def watch(self) -> AsyncIterator[int]:
        for number in range(2):
            yield number
            await asyncio.sleep(0.3)

    @endpoint(idempotent=True, middleware=[cache(ttl=60)])
    async def get(self, id: str) -> str:
        return id

    @endpoint(middleware=[rate_limit(1, burst=1)])
    async def place(self) -> None:
        pass

    @endpoint(middleware=[breaker(failures=1)])
    async def pay(self) -> None:
        raise Unavailable("the bank is closed")

    @endpoint
    async def crash(self) -> None:
        raise RuntimeError
"""


def promtool(*words: str) -> str:
    """Run promtool; returns its output."""
    ran = subprocess.run(
        [need("promtool"), *words],
        check=False,
        capture_output=True,
        text=True,
        cwd=OBSERVE,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def test_alerts_and_configuration_are_valid() -> None:
    """As Prometheus itself reads them."""
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", "alerts.yml")
    promtool("check", "config", "--syntax-only", "prometheus.yml")


def test_each_alert_fires_when_it_should_and_only_then() -> None:
    """Each has a case of its own, and none fires while all is well."""
    promtool("test", "rules", "alerts.test.yml")
    tests = yaml.safe_load((OBSERVE / "alerts.test.yml").read_text())["tests"]
    tried = {
        case["alertname"] for test in tests for case in test.get("alert_rule_test", ())
    }
    assert tried == {alert["alert"] for alert in ALERTS}
    assert "promql_expr_test" in tests[0]


def test_each_alert_is_explained() -> None:
    """The page says what to do at each, and at no other."""
    page = (ROOT / "docs/observability.md").read_text()
    told = set(re.findall(r"^\| `(Kitmsg\w+)` \|", page, re.MULTILINE))
    assert told == {alert["alert"] for alert in ALERTS}


def test_panels_say_what_they_show() -> None:
    """Each has a title, a description and queries; no two share an id or a place."""
    assert all(p["title"] and p["description"] and p["targets"] for p in PANELS)
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(ids) == len(set(ids))
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in BOARD["panels"]]
    assert len(places) == len(set(places))
    assert all(p["gridPos"]["x"] + p["gridPos"]["w"] <= 24 for p in BOARD["panels"])


def test_files_of_the_profile_exist_and_lead_to_each_other() -> None:
    """Configurations, the rules that Prometheus reads, the dashboard that Grafana opens."""
    places: dict[str, Path] = {}
    for service in SERVICES.values():
        for config in service.get("configs", ()):
            path = ROOT / COMPOSE["configs"][config["source"]]["file"]
            assert path.is_file()
            places[config["target"]] = path
    prometheus = yaml.safe_load((OBSERVE / "prometheus.yml").read_text())
    assert [*prometheus["rule_files"]] == ["/etc/prometheus/alerts.yml"]
    assert places["/etc/prometheus/alerts.yml"] == OBSERVE / "alerts.yml"
    provider = yaml.safe_load((OBSERVE / "grafana/dashboards.yml").read_text())
    folder = provider["providers"][0]["options"]["path"]
    assert places[f"{folder}/kitmsg.json"] == OBSERVE / "grafana/kitmsg.json"
    home = SERVICES["grafana"]["environment"][
        "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"
    ]
    assert home in places
    sources = yaml.safe_load((OBSERVE / "grafana/datasources.yml").read_text())
    hosts = {
        urllib.parse.urlsplit(source["url"]).hostname
        for source in sources["datasources"]
    }
    assert hosts <= set(SERVICES)
    jobs = {
        job["job_name"]: job["dns_sd_configs"][0]
        for job in prometheus["scrape_configs"]
    }
    assert {name for job in jobs.values() for name in job["names"]} <= set(SERVICES)
    worker = SERVICES["worker-observe"]["command"]
    assert f"0.0.0.0:{jobs['kitmsg-worker']['port']}" in worker
    assert str(jobs["kitmsg-gateway"]["port"]) in SERVICES["gateway-observe"]["command"]


@pytest.mark.parametrize("name", ["prometheus", "grafana", "jaeger"])
def test_images_have_a_version(name: str) -> None:
    """Versions are pinned, so that a start today is a start tomorrow."""
    assert re.fullmatch(r"[\w/]+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])


def test_the_image_can_send_traces() -> None:
    """It has OpenTelemetry's exporters, and Jaeger is where the variable says."""
    extras = re.search(r'"\.\[(.+)\]"', (ROOT / "Dockerfile").read_text())
    assert extras is not None
    assert "otel" in extras[1].split(",")
    for name in ("worker-observe", "gateway-observe"):
        address = SERVICES[name]["environment"]["KITMSG_TRACES"]
        assert urllib.parse.urlsplit(address).hostname in SERVICES


@pytest.mark.parametrize("name", ["worker-observe", "gateway-observe"])
def test_commands_are_kitmsgs(name: str) -> None:
    """The command line of the image takes what the file says."""
    from kitmsg.cli import build_parser

    build_parser().parse_args(SERVICES[name]["command"])


def _filled(query: str) -> str:
    """Return a query as Grafana sends it."""
    for name in ("service", "gateway"):
        query = query.replace(f"${name}", ".*")
    return query.replace("$__rate_interval", "10s")


def _missing(url: str, queries: dict[str, set[str]]) -> list[str]:
    """Return the queries that Prometheus has no series for, with the labels wanted."""
    missing = []
    for query, labels in queries.items():
        text = urllib.parse.urlencode({"query": query})
        with urlopen(f"{url}/api/v1/query?{text}", timeout=10) as answer:
            series = json.load(answer)["data"]["result"]
        if not series or not labels <= set(series[0]["metric"]):
            missing.append(query)
    return missing


async def _work(url: str, nats_url: str) -> None:
    """Make calls that end in every way that the dashboard shows, until cancelled."""
    async with aiohttp.ClientSession(url) as session, kitmsg.connect(nats_url) as kit:
        while True:
            for path in ("get", "place", "pay", "crash", "haunt", "watch", "nothing"):
                data = {"id": "1"} if path == "get" else {}
                with contextlib.suppress(aiohttp.ClientError):
                    to = f"/orders/{path}"
                    async with session.post(to, json=data, headers=TRACED) as answer:
                        await answer.read()
            for name in ("orders.pay", "far.get"):
                with contextlib.suppress(kitmsg.KitError):
                    await kit.call(name)
            with contextlib.suppress(OSError):
                await asyncio.to_thread(_send_long_head, url)
            await kit.jetstream.publish("event.observed.1", b'{"id":"1"}')
            await asyncio.sleep(0.05)


def _send_long_head(url: str) -> None:
    """Open a connection that the gateway closes."""
    place = urllib.parse.urlsplit(url)
    assert place.hostname is not None
    with socket.create_connection((place.hostname, place.port or 80), 10) as client:
        client.sendall(b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 200_000)
        while client.recv(4096):
            pass


@pytest.fixture(scope="module")
def pages(
    tmp_path_factory: pytest.TempPathFactory,
    nats_server: EmbeddedServer,
    free_tcp_port_factory: Callable[[], int],
) -> Iterator[dict[str, str]]:
    """URLs of a gateway, and of a Prometheus that reads it and a worker."""
    tmp_path = tmp_path_factory.mktemp("observe")
    (tmp_path / "shop.py").write_text(CODE)
    worker, gateway, far, own = (free_tcp_port_factory() for _ in range(4))
    config = yaml.safe_load((OBSERVE / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "200ms", "scrape_timeout": "200ms"}
    config["rule_files"] = [str(OBSERVE / "alerts.yml")]
    jobs = zip(config["scrape_configs"], ((worker, far), (gateway,)), strict=True)
    for job, ports in jobs:
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": [f"127.0.0.1:{port}" for port in ports]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    run = ["-m", "kitmsg.cli"]
    words = ["--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    words.append(f"--web.listen-address=127.0.0.1:{own}")
    command = SERVICES["prometheus"]["command"]
    words += [word for word in command if word.startswith("--enable-feature")]
    with contextlib.ExitStack() as stack:
        for command, says in (
            ([*run, "streams", "apply", "shop:Orders"], "made"),
            ([*run, "run", "shop:Orders", "--health", str(worker)], "is serving as"),
            ([*run, "gateway", "http", "--port", str(gateway)], "ready at"),
            (
                [
                    *(*run, "upstream", "http", f"http://127.0.0.1:{gateway}"),
                    *("--as", "far", "--route", "get=POST /orders/get"),
                    *("--health", str(far)),
                ],
                "is serving as",
            ),
        ):
            started = Command(command, tmp_path, nats_url=nats_server.url)
            stack.enter_context(started).says(says)
        started = Command(words, tmp_path, program=need("prometheus"))
        stack.enter_context(started).says("ready to receive web requests")
        yield {
            "gateway": f"http://127.0.0.1:{gateway}",
            "prometheus": f"http://127.0.0.1:{own}",
        }


async def test_every_query_of_the_dashboard_and_the_alerts_finds_something(
    pages: dict[str, str], nats_server: EmbeddedServer
) -> None:
    """In a real Prometheus, with the labels that legends name."""
    queries = {
        _filled(t["expr"]): set(re.findall(r"{{(\w+)}}", t["legendFormat"]))
        for _, t in QUERIES
    }
    queries |= {name: set() for a in ALERTS for name in METRIC.findall(a["expr"])}
    working = asyncio.create_task(_work(pages["gateway"], nats_server.url))
    missing: list[str] = []

    def all_found() -> bool:
        missing[:] = _missing(pages["prometheus"], queries)
        return not missing

    try:
        await asyncio.to_thread(until, all_found, "series for each query")
    except AssertionError:
        pytest.fail("no series for\n" + "\n".join(missing))
    finally:
        working.cancel()


@pytest.mark.parametrize("side", ["server", "gateway"])
async def test_a_duration_in_prometheus_leads_to_a_trace(
    pages: dict[str, str], nats_server: EmbeddedServer, side: str
) -> None:
    """By the exemplars that panels ask for; here of a caller that speaks B3 alone."""
    text = urllib.parse.urlencode(
        {
            "query": f"kitmsg_{side}_duration_seconds_bucket",
            "start": time.time() - 60,
            "end": time.time() + 600,
        }
    )
    working = asyncio.create_task(_work(pages["gateway"], nats_server.url))

    def traces() -> set[str]:
        url = f"{pages['prometheus']}/api/v1/query_exemplars?{text}"
        with urlopen(url, timeout=10) as answer:
            found = json.load(answer)["data"]
        return {e["labels"]["trace_id"] for each in found for e in each["exemplars"]}

    try:
        assert await asyncio.to_thread(until, traces, "an exemplar") == {TRACE}
    finally:
        working.cancel()
    asks = [t for _, t in QUERIES if f"kitmsg_{side}_duration_seconds_b" in t["expr"]]
    assert any(target.get("exemplar") for target in asks)


async def test_the_dashboard_can_be_drawn(
    pages: dict[str, str], nats_server: EmbeddedServer, tmp_path: Path
) -> None:
    """Each panel is in the picture, with what a real Prometheus knows."""
    picture = tmp_path / "dashboard.svg"
    words = [str(OBSERVE / "draw.py"), pages["prometheus"], str(picture)]
    working = asyncio.create_task(_work(pages["gateway"], nats_server.url))

    def drawn() -> bool:
        subprocess.run([sys.executable, *words, "--minutes", "1"], check=True)
        return "orders.get" in picture.read_text()

    try:
        await asyncio.to_thread(until, drawn, "lines of orders.get")
    finally:
        working.cancel()
    texts = [e.text for e in ElementTree.fromstring(picture.read_text()).iter()]
    assert {panel["title"] for panel in BOARD["panels"]} <= set(texts)


def test_the_picture_on_the_page_is_of_this_dashboard() -> None:
    """It has the panels that there are now."""
    texts = [e.text for e in ElementTree.parse(ROOT / "docs/dashboard.svg").iter()]
    assert {panel["title"] for panel in BOARD["panels"]} <= set(texts)
