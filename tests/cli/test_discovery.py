"""ls, info, stats and ping show what is on the bus, for people and for programs."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg import Kit, Service, endpoint
from kitmsg.cli.info import signature
from kitmsg.cli.ls import few
from kitmsg.cli.stats import shown, summarize
from kitmsg.discovery.subject import EndpointReport, ServiceReport, find_stats
from kitmsg.errors import DeadlineExceeded
from tests.worker.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kitmsg.bus.memory import MemoryBus
    from tests.cli.conftest import Ran


def test_ls_lists_services(cli: Callable[..., Ran], shop: str) -> None:
    """One line per service, with version and instances."""
    ran = cli("ls", nats_url=shop)
    head, line = ran.out.splitlines()
    assert head.split()[:3] == ["NAME", "INSTANCES", "VERSION"]
    assert line.split()[:3] == ["shop", "1", "1.2.3"]
    (row,) = json.loads(cli("ls", "--json", nats_url=shop).out)
    assert row["endpoints"] == [
        "add",
        "buy",
        "count",
        "echo",
        "fail",
        "go",
        "label",
        "price",
        "shout",
        "wait",
    ]


def test_ls_fits_the_terminal(
    cli: Callable[..., Ran], shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Endpoints that have no room are counted; --json has them all."""
    monkeypatch.setenv("COLUMNS", "80")
    lines = cli("ls", nats_url=shop).out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "add, buy, " in lines[1]
    assert re.search(r" and \d more  Sells things\.$", lines[1])
    monkeypatch.setenv("COLUMNS", "200")
    assert "shout, wait  Sells things." in cli("ls", nats_url=shop).out


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (9, "a, bb, cc"),
        (8, "a and 2 more"),
        (1, "a and 2 more"),
        (16, "a, bb, cc"),
    ],
)
def test_names_that_do_not_fit_are_counted(width: int, shown: str) -> None:
    """As many as there is room for, and one at least."""
    assert few(["a", "bb", "cc"], width) == shown
    assert few([], width) == ""


@pytest.mark.parametrize(
    ("schema", "shown"),
    [
        ({"type": "string", "contentEncoding": "base64"}, "bytes"),
        ({"type": "string", "format": "date-time"}, "date-time"),
        ({"type": "string", "format": "date"}, "date"),
        ({"type": "string", "format": "uuid"}, "uuid"),
        ({"type": "string", "format": "decimal"}, "decimal"),
        ({"type": "string", "format": "duration"}, "duration"),
        ({"type": "array", "items": {"type": "string", "format": "date"}}, "[date]"),
        ({"type": "string"}, "string"),
        ({"type": "integer", "format": "int64"}, "integer"),
    ],
)
def test_a_signature_says_what_a_text_holds(schema: dict[str, Any], shown: str) -> None:
    """Bytes and dates are no mere strings, whatever they are in JSON."""
    request = {"properties": {"x": schema}, "required": ["x"]}
    assert signature({"request": request, "response": schema}) == (
        f"(x: {shown}) -> {shown}"
    )


def test_info_shows_signatures(cli: Callable[..., Ran], shop: str) -> None:
    """A service's endpoints have their routes and types."""
    out = cli("info", "shop", nats_url=shop).out
    assert "Sells things." in out
    assert "GET /price/{name}" in out
    assert "(data: bytes, day: date)" in out
    assert "(name: string, count: integer = ...) -> number" in out
    seen = json.loads(cli("info", "shop", "--json", nats_url=shop).out)
    assert seen["instances"][0]["version"] == "1.2.3"
    assert "price" in seen["schemas"]


def test_info_fits_the_terminal(
    cli: Callable[..., Ran], shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table where it fits; else lines that are wrapped, with nothing left out."""
    monkeypatch.setenv("COLUMNS", "200")
    wide = cli("info", "shop", nats_url=shop).out
    assert re.search(r"price +shop\.price +GET /price/\{name\} +\(name: string", wide)
    monkeypatch.setenv("COLUMNS", "40")
    narrow = cli("info", "shop", nats_url=shop).out
    assert max(map(len, narrow.splitlines())) <= 40
    assert "(name: string, count: integer = ...) -> number" in " ".join(narrow.split())
    assert set(wide.split()) - {"ENDPOINT", "SUBJECT", "HTTP", "SIGNATURE"} - {
        "DESCRIPTION"
    } <= set(narrow.split())


def test_stats_counts(cli: Callable[..., Ran], shop: str) -> None:
    """Requests and errors are counted per endpoint."""
    before = _row(cli, shop, "shop.price")
    cli("call", "shop.price", "name=tea", nats_url=shop)
    cli("call", "shop.price", nats_url=shop)
    after = _row(cli, shop, "shop.price")
    assert after["errors"] == before["errors"] + 1
    assert after["p50_ns"] > 0
    assert "shop.price" in cli("stats", nats_url=shop).out


async def test_stats_shows_what_is_stuck(memory_bus: MemoryBus) -> None:
    """An instance whose threads all hang takes no calls, and is counted."""
    kit, gate = Kit(memory_bus), threading.Event()

    class Stuck(Service):
        concurrency = 1

        @endpoint
        def wait(self) -> None:
            gate.wait(60)

    for _ in range(2):
        await kit.serve(Stuck())
    with pytest.raises(DeadlineExceeded):
        await kit.call("stuck.wait", timeout=0.05)
    async with asyncio.timeout(20):
        while not sum(row["stuck"] for row in summarize(await find_stats(kit.bus))):
            await asyncio.sleep(0.01)
    rows = summarize(await find_stats(kit.bus))
    gate.set()
    assert (rows[0]["instances"], rows[0]["stuck"]) == (2, 1)
    assert "2 (1 stuck)" in shown(rows)


def _row(cli: Callable[..., Ran], shop: str, name: str) -> dict[str, int]:
    rows = json.loads(cli("stats", "shop", "--json", nats_url=shop).out)
    return next(row for row in rows if row["endpoint"] == name)


def test_stats_watches_until_interrupted(tmp_path: Path, shop: str) -> None:
    """With --watch the counters come again every second; Ctrl-C ends it quietly."""
    words = ["-m", "kitmsg.cli", "stats", "--watch", "--json"]
    with Command(words, tmp_path, nats_url=shop) as command:
        command.says('"endpoint":"shop.price"', 2)
        command.interrupt()
        assert command.ends() == 130
        assert "Traceback" not in command.output


def test_ping_measures(cli: Callable[..., Ran], shop: str) -> None:
    """Each instance answers with its round trip."""
    (row,) = json.loads(cli("ping", "shop", "--json", nats_url=shop).out)
    assert row["rtt_ms"] > 0
    assert "RTT" in cli("ping", nats_url=shop).out


@pytest.mark.parametrize("verb", ["info", "stats", "ping"])
def test_an_unknown_service_is_said(
    cli: Callable[..., Ran], shop: str, verb: str
) -> None:
    """A name that nobody has gets the nearest one, and code 3."""
    ran = cli(verb, "shap", nats_url=shop)
    assert ran.code == 3
    assert ran.err.endswith("no service 'shap' on this bus; did you mean 'shop'?\n")


def test_services_of_other_languages_are_summed_up() -> None:
    """A service that says only what the protocol demands is shown as far as it goes."""
    endpoint = EndpointReport(
        name="b",
        subject="a.b",
        num_requests=4,
        num_errors=1,
        last_error="500:oops",
        processing_time=8000,
        average_processing_time=2000,
    )
    report = ServiceReport(
        name="a", id="1", version="1.0.0", started="", endpoints=[endpoint]
    )
    (row,) = summarize([report, report])
    assert row["instances"] == 2
    assert (row["requests"], row["errors"], row["average_ns"]) == (8, 2, 2000)
    assert row["p99_ns"] is row["in_flight"] is None
