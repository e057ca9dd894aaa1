"""The benchmarks run and say something; how fast anything is, is not asserted."""

from __future__ import annotations

import importlib.util
import json
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks import (
    bounds,
    chart,
    compare,
    discovery,
    faults,
    goals,
    guard,
    layers,
    table,
    upstreams,
)
from benchmarks.__main__ import main
from benchmarks.compare import Peer, Sample
from benchmarks.figures import report as report_figures
from benchmarks.figures.offered import Outcome, endings, run as run_loop
from benchmarks.peers.tape import ITEMS
from kitmsg.service.declare import DEFAULTS
from tests.discovery.systems.etcd import Etcd

if TYPE_CHECKING:
    from pathlib import Path

_SVG = "{http://www.w3.org/2000/svg}"


def run(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """Return what a verb prints for machines."""
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def sample(peer: str, rate: float, **more: Any) -> Sample:
    """Return a measurement."""
    facts: dict[str, Any] = {"codec": "json", "in_flight": 64, "p50": 1e-3, "p99": 2e-3}
    facts.update(more)
    return Sample(peer, rate=rate, cpu={"client": 1e-5, "server": 2e-5}, **facts)


@pytest.mark.slow
def test_every_server_of_rpc_works_for_its_own_peer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each peer is measured, and it is its own server that spends the CPU."""
    names = "kitmsg,kitmsg-bare,kitmsg-transport,echo,nats-py,nats.micro"
    options = ("--calls", "80", "--rounds", "1", "--in-flight", "1,8")
    found = run(capsys, "rpc", "--peers", names, *options)
    assert [(r["peer"], r["in_flight"]) for r in found["rows"]] == [
        (name, number) for number in (1, 8) for name in names.split(",")
    ]
    for row in found["rows"]:
        assert row["rate"] > 0
        assert 0 < row["p50"] <= row["p99"]
        assert row["cpu"]["server"] > 0
        assert row["ratios"]["rate"]["median"] > 0


@pytest.mark.slow
def test_http_is_measured_without_go_and_drawn(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where there is no Go, a generator in Python asks; the chart has a bar per peer."""
    monkeypatch.setattr("benchmarks.__main__.gokit", lambda: "")
    drawn = tmp_path / "http.svg"
    options = (
        "--calls",
        "40",
        "--rounds",
        "1",
        "--in-flight",
        "4",
        "--svg",
        str(drawn),
    )
    found = run(capsys, "http", "--peers", "kitmsg,aiohttp-no-bus", *options)
    assert [row["peer"] for row in found["rows"]] == ["kitmsg", "aiohttp-no-bus"]
    assert found["rows"][0]["cpu"]["gateway"] > 0
    assert len(ET.parse(drawn).getroot().findall(f"{_SVG}rect")) == 2


def test_parts_alone_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    """The mailbox and the codecs need neither a bus nor a process."""
    box = run(capsys, "mailbox", "--calls", "200", "--rounds", "1")
    assert {row["work"] for row in box["rows"]} >= {"at once", "suspended"}
    codecs = run(capsys, "codec", "--calls", "10", "--rounds", "1")
    assert {row["message"] for row in codecs["rows"]} == {"small", "medium"}
    assert all(row["write_ns"] > 0 < row["read_ns"] for row in codecs["rows"])


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["grpc", "thrift", "stream"])
def test_each_protocol_is_measured_beside_its_own(
    capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    """The same client asks kitmsg and a server without a bus."""
    found = run(capsys, verb, "--calls", "40", "--rounds", "1", "--in-flight", "2")
    assert len(found["rows"]) == 2
    assert all(row["rate"] > 0 < row["cpu"]["server"] for row in found["rows"])


def test_items_are_counted_not_streams() -> None:
    """A stream of many items counts as so many."""
    assert {peer.items for peer in compare.STREAM} == {ITEMS}
    assert {peer.items for peer in compare.RPC} == {1}


@pytest.mark.slow
def test_each_default_is_measured_beside_all_of_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One process serves a variant without each; what it adds has a sign and a spread."""
    found = run(capsys, "layers", "--calls", "100", "--rounds", "1")
    full, *rows = found["rows"]
    assert full["seconds"] > 0
    assert {row["layer"] for row in rows} == {*DEFAULTS, "all together"}
    assert all(row["low"] <= row["added"] <= row["high"] for row in rows)
    assert "metrics" in layers.report(found["rows"])


@pytest.mark.slow
def test_a_figure_says_what_was_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    """A figure has a promise and a measurement, for people and for machines."""
    found = run(capsys, "figures", "--quick", "--only", "import")
    (row,) = found["rows"]
    assert row["what"] == "import kitmsg / import nats"
    assert row["value"] > 0
    assert row["measured"] in report_figures(found["rows"])


@pytest.mark.slow
def test_streams_over_http_have_their_figures(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A slow reader gets every byte, and idle ones are held, in so much memory."""
    found = run(capsys, "figures", "--quick", "--only", "sse-memory,sse-idle")
    held = [row for row in found["rows"] if "resident" in row["wanted"]]
    assert len(held) == 5
    assert all(0 < row["value"] < 250e6 for row in held)


@pytest.mark.slow
def test_a_server_that_dies_costs_the_calls_in_flight() -> None:
    """Of 500 a second that take 20 ms, ten are in flight at all four servers together."""
    found = run_loop(upstreams.one_killed())
    assert 0 < found["held"] + found["later"] <= 10


@pytest.mark.slow
def test_a_registry_that_dies_costs_no_call() -> None:
    """Nor does its return."""
    system = Etcd()
    try:
        assert run_loop(discovery.without(system, 2.0)) == 0
    finally:
        system.program.kill()


@pytest.mark.parametrize(
    ("is_least", "met"), [(False, [True, False]), (True, [False, True])]
)
def test_a_bound_is_for_the_median(is_least: bool, met: list[bool]) -> None:
    values = [[0.1, 0.2, 9.0], [0.0, 3.0, 4.0]]
    rows = [bounds.row("x", each, 1.0, is_least=is_least) for each in values]
    assert [each["is_met"] for each in rows] == met
    assert ("NO" in bounds.report(rows)) is True


@pytest.mark.slow
def test_faults_have_their_cost(capsys: pytest.CaptureFixture[str]) -> None:
    """Calls fail while the bus is away, and have results when it is back."""
    found = run(capsys, "faults", "--only", "bus-killed")
    (row,) = found["rows"]
    assert 0 < row["lost"] < row["calls"]
    assert row["what"] in faults.report(found["rows"])


def test_an_unknown_fault_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped name gets the list of names."""
    with pytest.raises(SystemExit):
        main(["faults", "--only", "bus-kiled"])
    assert "no fault 'bus-kiled'; there are bus-killed," in capsys.readouterr().err


def test_peers_that_cannot_run_are_left_out_with_a_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A module that is not installed, or Go, is named; the rest goes on."""
    peers = (
        Peer("there", "kit", "kit"),
        Peer("gopher", "go serve {url}", "go load {url}"),
        Peer("absent", "kit", "kit", needs=("no_such_module",)),
        Peer("part", "kit", "kit", needs=("no_such_package.part",)),
    )
    assert compare.available(peers, go="") == [peers[0]]
    said = capsys.readouterr().err
    assert "gopher is left out: it needs Go." in said
    assert "absent is left out: it needs no_such_module." in said
    assert "part is left out: it needs no_such_package.part." in said


def test_an_unknown_peer_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped name gets the list of names."""
    with pytest.raises(SystemExit):
        main(["rpc", "--peers", "kitmsgg"])
    assert "no peer 'kitmsgg'; there are kitmsg," in capsys.readouterr().err


def test_counts_start_at_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing can be measured in no round, or with nothing in flight."""
    for words in (("--rounds", "0"), ("--in-flight", "1,0"), ("--calls", "-1")):
        with pytest.raises(SystemExit):
            main(["rpc", *words])
        assert "is less than 1" in capsys.readouterr().err


def test_ratios_are_taken_round_by_round() -> None:
    """What slows one round down slows both sides of its ratio."""
    assert table.ratio([10, 40, 30], [10, 10, 10]) == table.Ratio(3.0, 1.0, 4.0)
    assert str(table.Ratio(3.0, 1.0, 4.0)) == "3.00 (1.00..4.00)"
    assert table.ratio([1.0], [0.0]) is None


def test_the_first_peer_is_compared_with_the_others() -> None:
    """The ratio says how many times the other's rate the first one's is."""
    rows = compare.summary([sample("kitmsg", 30.0), sample("slow", 10.0)])
    assert rows[1]["ratios"]["rate"].median == 3.0
    lines = compare.report(rows).splitlines()
    assert lines[0] == "64 in flight, json"
    assert lines[-1].startswith("slow")
    assert "3.00 (3.00..3.00)" in lines[-1]


def test_goals_look_the_right_way() -> None:
    """More calls are better, a longer wait is worse."""
    fast = [sample("kitmsg", 2.0), sample("gokit", 1.0)]
    assert [row["is_met"] for row in goals.check("rpc", fast)] == [True]
    late = [
        sample("kitmsg", 2.0, in_flight=1, p50=2e-3),
        sample("gokit", 1.0, in_flight=1, p50=1e-3),
    ]
    assert [row["is_met"] for row in goals.check("rpc", late)] == [False]
    assert "NO" in goals.report(goals.check("rpc", late))
    assert goals.report(goals.check("http", fast)) == ""


def test_the_chart_is_svg_with_the_longest_bar_first() -> None:
    """Labels are escaped, ours is in colour, and there is a style for dark pages."""
    text = chart.bars("a < b", [("x & y", 1.0), ("kitmsg", 4.0)], ours="kitmsg")
    root = ET.fromstring(text)
    widths = [float(bar.attrib["width"]) for bar in root.findall(f"{_SVG}rect")]
    assert widths[0] == 4 * widths[1]
    assert root.findall(f"{_SVG}rect")[0].attrib["class"] == "bar ours"
    assert "prefers-color-scheme: dark" in text
    assert chart.bars("nothing", []).startswith("<svg")


def test_the_guard_prints_its_table() -> None:
    """Without a counter of instructions the table says so, with one it tells them."""
    one = table.Ratio(1.0, 1.0, 1.0)
    row = {
        "peer": "kitmsg",
        **dict.fromkeys(("rate", "server_cpu", "client_cpu"), one),
        **dict.fromkeys(("server_cpu_us", "client_cpu_us"), 1.0),
        "server_instructions": None,
    }
    assert "No instructions" in guard.report([row])
    counted = guard.report([row | {"server_instructions": 12_345.0}])
    assert "kitmsg 12,345" in counted


def test_endings_are_counted_by_kind() -> None:
    """The commonest comes first."""
    outcomes = [Outcome(n, 0.0, 0.1, "" if n else "Unavailable") for n in range(3)]
    assert endings(outcomes) == "2 results, 1 Unavailable"


@pytest.mark.slow
def test_metrics_are_measured_beside_prometheus_client(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Pages, memory, push loops and calls beside one: a ratio each."""
    found = run(capsys, "metrics", "--rounds", "1", "--calls", "100")
    assert len(found["rows"]) == 6
    for row in found["rows"]:
        assert row["kitmsg"] > 0
        assert row["other"] > 0


@pytest.mark.slow
@pytest.mark.timeout(300)  # it starts two dozen processes
def test_traces_are_measured_beside_none(capsys: pytest.CaptureFixture[str]) -> None:
    """A ratio for each share that is kept, and for both protocols."""
    found = run(capsys, "tracing", "--rounds", "1", "--calls", "640")
    medians = {row["figure"]: row["median"] for row in found["rows"]}
    bounds = {row["figure"]: row["bound"] for row in found["rows"]}
    for mode, bound in (("none", 0.99), ("some", 0.95), ("all", 0.7)):
        assert medians[f"rpc, 64 in flight: {mode} / off"] > 0
        assert bounds[f"rpc, 64 in flight: {mode} / off"] == f">= {bound}"
    for protocol in ("http", "grpc"):
        assert medians[f"32 in flight: kitmsg {protocol} all / off"] > 0


@pytest.mark.slow
def test_events_are_measured_beside_their_peers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each part has a row for each peer, with a rate and the goal that it is held to."""
    parts = "consume,publish,tell,hear"
    options = ("--calls", "400", "--rounds", "1", "--only", parts)
    rows = run(capsys, "events", *options)["rows"]
    assert list(dict.fromkeys(row["part"] for row in rows)) == parts.split(",")
    for row in rows:
        assert row["rate"][0] > 0
        assert row["cpu"]["client"] > 0
        assert row["cpu"]["bus"] > 0
    goals_of = {row["part"] for row in rows if row["goals"]}
    held = {part for part in parts.split(",") if part != "hear"}
    has_faststream = importlib.util.find_spec("faststream") is not None
    assert goals_of == (held | {"hear"} if has_faststream else held)


def test_a_part_of_events_that_is_none_is_named() -> None:
    """A wrong name is answered with those that there are."""
    with pytest.raises(SystemExit):
        main(["events", "--only", "nothing"])
