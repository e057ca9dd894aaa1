"""One call from an HTTP client through six processes, as Zipkin, Jaeger and a collector say."""

from __future__ import annotations

import contextlib
import json
import signal
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.ports import free_port
from tests.tracing.receivers import collector, jaeger, zipkin
from tests.worker.commands import Command, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kitmsg.bus.embedded import EmbeddedServer

ROOT = Path(__file__).parents[2]
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SHOP = "tests.tracing.shop"
_BANK = ("--reflection", "--service", "bank.Bank")
EXPECTED = [
    "server GET /buy/{item}",
    "  client shop.buy",
    "    server shop.buy",
    "      internal price",
    "        client stock.count",
    "          server stock.count",
    "          server stock.count",
    "      client stock.find",
    "        server stock.find",
    "        server stock.find",
    "      client pay.charge",
    "        server pay.charge",
    "          client bank.Bank/Charge",
    "            server bank.Bank/Charge",
    "              client bank.charge",
    "                server bank.charge",
]

pytestmark = pytest.mark.timeout(180)


class Span(NamedTuple):
    """What receivers say of a span, in the same words."""

    id: str
    parent: str
    kind: str
    name: str
    start: int
    stop: int
    events: list[str]
    facts: dict[str, Any]
    process: str


class Told(NamedTuple):
    """The spans of the call."""

    by_zipkin: list[Span]
    by_jaeger: list[Span]
    by_collector: list[Span]


@contextlib.contextmanager
def running(url: str, *words: str, folder: Path) -> Iterator[Command]:
    environ = {"PYTHONPATH": str(ROOT), "OTEL_BSP_SCHEDULE_DELAY": "200"}
    command = ["-m", "kitmsg.cli", *words]
    with Command(command, folder, nats_url=url, environ=environ) as process:
        yield process


def _get(port: int, path: str, body: bytes | None = None, **headers: str) -> Any:
    headers |= {"Content-Type": "application/json"} if body else {}
    url = f"http://127.0.0.1:{port}{path}"
    request = urllib.request.Request(url, data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as found:
        return json.loads(found.read() or b"null")


def _answers(port: int, path: str) -> bool:
    try:
        _get(port, path)
    except (OSError, ValueError):
        return False
    return True


@pytest.fixture(scope="module")
def told(
    nats_server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Told]:
    """Run it all, call once, and read the spans back."""
    folder, web, grpc = tmp_path_factory.mktemp("traces"), free_port(), free_port()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(zipkin())
        seen = stack.enter_context(jaeger())
        collected = stack.enter_context(collector(folder))
        traces = ("--traces", f"{collected.grpc},{server.address},{seen.address}")

        def run(*words: str) -> Command:
            start = running(nats_server.url, *words, *traces, folder=folder)
            return stack.enter_context(start)

        processes = [
            run("run", f"{SHOP}:Bank"),
            run("run", f"{SHOP}:Stock"),
            run("run", f"{SHOP}:Shop"),
            run("gateway", "grpc", "--port", str(grpc)),
            run("gateway", "http", "--port", str(web)),
        ]
        for process in processes[:3]:
            process.says("is serving as")
        until(lambda: _answers(web, "/openapi.json"), "the gateway answers")
        processes.append(
            run("upstream", "grpc", f"127.0.0.1:{grpc}", "--as", "pay", *_BANK)
        )
        processes[-1].says("is serving as")
        until(lambda: _answers(web, "/openapi.json"), "the gateway answers")
        try:
            _get(web, "/shop/warm", b"{}")
            given = f"00-{TRACE}-{PARENT}-01"
            assert _get(web, "/buy/hat", traceparent=given) == 3
        except urllib.error.HTTPError as exc:
            told = "".join(process.output for process in processes)
            raise AssertionError(f"{exc}: {exc.read()!r}\n{told}") from exc
        for process in processes:
            process.send(signal.SIGTERM)
        for process in processes:
            assert process.ends() == 0, process.output
        until(lambda: len(server.trace(TRACE)) >= len(EXPECTED), "spans at Zipkin")
        until(lambda: len(seen.trace(TRACE)) >= len(EXPECTED), "spans at Jaeger")
        yield Told(
            sorted(map(_of_zipkin, server.trace(TRACE)), key=lambda s: s.start),
            sorted(map(_of_jaeger, seen.trace(TRACE)), key=lambda s: s.start),
            sorted(map(_of_otlp, collected.trace(TRACE)), key=lambda s: s.start),
        )


def _of_zipkin(span: dict[str, Any]) -> Span:
    return Span(
        span["id"],
        span.get("parentId", ""),
        span.get("kind", "internal").lower(),
        span["name"],
        span["timestamp"] * 1000,
        (span["timestamp"] + span["duration"]) * 1000,
        [each["value"] for each in span.get("annotations", [])],
        span.get("tags", {}),
        span["localEndpoint"]["serviceName"],
    )


def _of_jaeger(span: dict[str, Any]) -> Span:
    facts = {tag["key"]: tag["value"] for tag in span["tags"]}
    fields = [field for log in span["logs"] or () for field in log["fields"]]
    return Span(
        span["spanID"],
        next((each["spanID"] for each in span["references"]), ""),
        facts.get("span.kind", "internal"),
        span["operationName"],
        span["startTime"] * 1000,
        (span["startTime"] + span["duration"]) * 1000,
        [each["value"] for each in fields if each["key"] == "event"],
        facts,
        span["process"],
    )


def _of_otlp(span: dict[str, Any]) -> Span:
    kinds = {1: "internal", 2: "server", 3: "client"}
    return Span(
        span["spanId"],
        span.get("parentSpanId", ""),
        kinds[span["kind"]],
        span["name"],
        int(span["startTimeUnixNano"]),
        int(span["endTimeUnixNano"]),
        [each["name"] for each in span.get("events", [])],
        span["facts"],
        span["process"],
    )


def _tree(spans: list[Span]) -> list[str]:
    lines: list[str] = []

    def add(parent: str, indent: str) -> None:
        for span in spans:
            if span.parent == parent:
                lines.append(f"{indent}{span.kind} {span.name}")
                add(span.id, f"{indent}  ")

    add(PARENT, "")
    return lines


def test_zipkin_has_one_tree(told: Told) -> None:
    """Below the span of the caller; Zipkin writes names in lower case."""
    assert _tree(told.by_zipkin) == [line.lower() for line in EXPECTED]


def test_jaeger_has_one_tree(told: Told) -> None:
    """And the events, times and processes that the collector has."""
    assert _tree(told.by_jaeger) == EXPECTED
    collected = {span.id: span for span in told.by_collector}
    for span in told.by_jaeger:
        same = collected[span.id]
        assert (span.events, span.process) == (same.events, same.process)
        assert abs(span.start - same.start) < 1000  # of ns: it keeps microseconds
        assert abs(span.stop - same.stop) < 2000


def test_the_collector_has_one_tree(told: Told) -> None:
    """The same, by OTLP: every span, with its right parent."""
    assert _tree(told.by_collector) == EXPECTED
    assert len(told.by_collector) == len(EXPECTED)


def test_times_nest(told: Told) -> None:
    """No child begins before its parent, or ends after it; but for the hedge that lost."""
    spans = {span.id: span for span in told.by_collector}
    for span in told.by_collector:
        assert span.start <= span.stop
        parent = spans.get(span.parent)
        if parent is not None:
            assert parent.start <= span.start
            if span.facts.get("rpc.response.status_code") != "CANCELLED":
                assert span.stop <= parent.stop


def test_attempts_are_told(told: Told) -> None:
    """A retry and a hedge are events of the client span."""
    events = {s.name: s.events for s in told.by_collector if s.kind == "client"}
    assert events["stock.count"] == ["retry"]
    assert "hedge" in events["stock.find"]
    turns = [
        s for s in told.by_collector if s.name == "stock.find" and s.kind == "server"
    ]
    codes = {turn.facts["rpc.response.status_code"] for turn in turns}
    assert codes == {"OK", "CANCELLED"}


def test_each_process_says_what_it_is(told: Told) -> None:
    """By its service, or the gateway's kind."""
    assert {span.process for span in told.by_collector} == {
        *("bank", "stock", "shop", "pay"),
        *("kitmsg-gateway-http", "kitmsg-gateway-grpc"),
    }
