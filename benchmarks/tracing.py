"""Traces: what they cost a call, and what OpenTelemetry's own instrumentation costs others.

Spans go over gRPC to a sink that drops them.  Ratios are rates with traces against the same
program without, in one run.  The others need ``opentelemetry-instrumentation-aiohttp-server``
and ``opentelemetry-instrumentation-grpc``.
"""

from __future__ import annotations

import contextlib
import os
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from benchmarks import goals, table
from benchmarks.compare import Peer, available, compare
from benchmarks.fleet import free_port
from benchmarks.peers.traced import SINK

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from benchmarks.compare import Sample

__all__ = ["measure", "report"]

_JSON: Final = ("json",)
_OTEL: Final = ("opentelemetry.sdk",)
_SHORTER: Final = 4
_SLOWER: Final = 16  # HTTP and gRPC are, and so fewer calls do
_MODES: Final = ("none", "some", "all")
_RPC: Final = tuple(
    Peer(mode, f"traced kit {mode}", f"traced kit {mode}", codecs=_JSON, needs=_OTEL)
    for mode in ("off", *_MODES)
)
_HTTP: Final = tuple(
    peer
    for mode in ("off", "all")
    for peer in (
        Peer(
            f"kitmsg http {mode}",
            f"traced kit {mode}",
            f"web /calculator-{mode}/sum",
            f"traced gateway {mode}",
            codecs=_JSON,
        ),
        Peer(
            f"aiohttp {mode}",
            f"traced aiohttp {mode}",
            "web /sum",
            codecs=_JSON,
            needs=("opentelemetry.instrumentation.aiohttp_server",),
        ),
    )
)
_GRPC: Final = tuple(
    Peer(
        f"kitmsg grpc {mode}",
        f"traced kit {mode}",
        f"traced gateway-grpc {mode}",
        f"traced gateway-grpc {mode}",
        codecs=_JSON,
    )
    for mode in ("off", "all")
) + tuple(
    Peer(
        f"grpcio {mode}",
        f"traced grpcio {mode}",
        f"traced grpcio {mode}",
        codecs=_JSON,
        needs=("opentelemetry.instrumentation.grpc",),
    )
    for mode in ("off", "all")
)


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the figures, each with its bound; `goals` has those of RPC."""
    calls, rounds = options.calls, options.rounds
    with _sink():
        # Many short rounds: a ratio is that of neighbours, whom the same things disturb.
        found = _samples(_RPC, 64, rounds * _SHORTER, calls // _SHORTER)
        rows = [_kept(goal) for goal in goals.check("tracing", found)]
        others = _rates(_samples((*_HTTP, *_GRPC), 32, rounds * 2, calls // _SLOWER))
        for ours, theirs in (("kitmsg http", "aiohttp"), ("kitmsg grpc", "grpcio")):
            kept = [_ratios(others, f"{n} all", f"{n} off") for n in (ours, theirs)]
            for name, values in zip((ours, theirs), kept, strict=True):
                rows.append(_row(f"32 in flight: {name} all / off", values, ""))
            gains = [a - b for a, b in zip(*kept, strict=False)]
            row = _row(f"{ours} keeps more than {theirs} by", gains, "> 0")
            rows.append({**row, "is_met": median(gains) > 0 if gains else None})
    return rows


def _kept(goal: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a goal that was checked."""
    found = goal["ratio"]
    return {
        "figure": f"rpc, 64 in flight: {goal['ours']} / {goal['theirs']}",
        "median": found.median,
        "least": found.least,
        "most": found.most,
        "bound": f">= {goal['bound']:g}",
        "is_met": goal["is_met"],
    }


def _samples(
    peers: Sequence[Peer], in_flight: int, rounds: int, calls: int
) -> list[Sample]:
    return compare(
        available(peers, go=""),
        codec="json",
        in_flight=[in_flight],
        rounds=rounds,
        calls=calls,
        go="",
    )


def _rates(samples: Sequence[Sample]) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {}
    for sample in samples:
        rates.setdefault(sample.peer, []).append(sample.rate)
    return rates


def _ratios(rates: dict[str, list[float]], ours: str, theirs: str) -> list[float]:
    """Return the ratio in each round; none for what could not be measured."""
    pairs = zip(rates.get(ours, ()), rates.get(theirs, ()), strict=False)
    return [one / other for one, other in pairs]


def _row(name: str, values: Sequence[float], bound: str) -> dict[str, Any]:
    return {
        "figure": name,
        "median": median(values) if values else None,
        "least": min(values, default=None),
        "most": max(values, default=None),
        "bound": bound,
        "is_met": None,
    }


def report(rows: list[dict[str, Any]]) -> str:
    """Return the table of what `measure` found."""
    lines = [
        [
            row["figure"],
            *(_shown(row[name]) for name in ("median", "least", "most")),
            row["bound"],
            {True: "yes", False: "NO", None: ""}[row["is_met"]],
        ]
        for row in rows
    ]
    return table.draw(["traces", "median", "least", "most", "wanted", "met"], lines)


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


@contextlib.contextmanager
def _sink() -> Iterator[None]:
    """Run a server for OTLP over gRPC that drops what it gets."""
    from concurrent.futures import ThreadPoolExecutor

    import grpc

    class Drop(grpc.GenericRpcHandler):  # type: ignore[misc]  # it has no types
        def service(self, _: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(lambda *_: b"")

    server = grpc.server(ThreadPoolExecutor(4), handlers=(Drop(),))
    port = free_port()
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    os.environ[SINK] = str(port)
    try:
        yield
    finally:
        server.stop(None)
