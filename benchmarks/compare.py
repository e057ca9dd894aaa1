"""Peers measured in turns, in one run: `rpc`, `http` and the other protocols.

Every process of every peer is there from the beginning.  After a warm-up, round 1 measures
each peer, round 2 each again, and so on: what disturbs the machine disturbs all of them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from benchmarks import table
from benchmarks.fleet import Load, Process, cpu_seconds, free_port, gokit, python_peer
from benchmarks.peers import Setting
from benchmarks.peers.tape import ITEMS
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.service.declare import DEFAULTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "GRPC",
    "HTTP",
    "LAYERS",
    "RPC",
    "STREAM",
    "THRIFT",
    "WEBSOCKET",
    "Peer",
    "Sample",
    "available",
    "compare",
    "report",
    "summary",
]

_ROLES: Final = ("client", "gateway", "server", "bus")
_LATENCY_SHARE: Final = 4  # one in flight is slow: a quarter of the calls will do
_WARM_UP_SHARE: Final = 10


@dataclass(frozen=True)
class Peer:
    """What is compared.

    A side is a module of `benchmarks.peers` and a variant, or the Go program's arguments.

    Attributes:
        name: In tables.
        server: What answers.
        load: What asks.
        gateway: What stands between, for HTTP.
        codecs: What it can speak.
        needs: Modules that must be installed.
        label: In charts; "" to stay out of them.
        items: How many things one call brings, which are what is counted.
        prepares: Whether its load has something to do before each measurement.
    """

    name: str
    server: str
    load: str
    gateway: str = ""
    codecs: tuple[str, ...] = ("json", "msgpack")
    needs: tuple[str, ...] = ()
    label: str = ""
    items: int = 1
    prepares: bool = False


@dataclass(frozen=True)
class Sample:
    """One measurement; times in seconds.

    Attributes:
        peer: Name.
        codec: What the payload was written in.
        in_flight: Calls at once.
        rate: Calls per second, or items where a call brings many.
        p50: Half of the calls took no longer.
        p99: Nor did 99 of 100 take longer than this.
        cpu: CPU per call or item, by role.
    """

    peer: str
    codec: str
    in_flight: int
    rate: float
    p50: float
    p99: float
    cpu: dict[str, float]


_JSON: Final = ("json",)

RPC: Final = (
    Peer("kitmsg", "kit", "kit", label="kitmsg"),
    Peer("kitmsg-bare", "kit bare", "kit bare", label="kitmsg, layers off"),
    Peer("kitmsg-transport", "transport", "transport"),
    Peer("echo", "echo", "echo", codecs=_JSON),
    Peer("gokit", "go serve {url}", "go load {url}", codecs=_JSON, label="Go kit"),
    Peer("nats-py-uvloop", "natspy uvloop", "natspy uvloop", label="nats-py, uvloop"),
    Peer("nats-py", "natspy asyncio", "natspy asyncio", label="nats-py, asyncio"),
    Peer("nats.micro", "micro", "micro", label="nats.micro"),
    Peer(
        "faststream",
        "stream",
        "stream",
        codecs=_JSON,
        needs=("faststream",),
        label="FastStream",
    ),
    # The servers alone, under the same load.
    Peer("echo->nats-py", "natspy natspy.echo", "echo natspy.echo", codecs=_JSON),
    Peer("go->kitmsg", "kit gokit", "go load {url} kit.gosum", codecs=_JSON),
    Peer("go->nats-py", "natspy gokit", "go load {url} natspygokit.sum", codecs=_JSON),
)
"""Peers of `rpc`; the others are compared with the first."""

LAYERS: Final = (
    RPC[0],
    *(
        Peer(f"without-{name}", f"kit {name}", f"kit {name}")
        for name in sorted(DEFAULTS)
    ),
    RPC[1],
)
"""Peers that show what each default costs."""

HTTP: Final = (
    Peer(
        "kitmsg",
        "kit",
        "web /calculator/sum",
        "gateway",
        codecs=_JSON,
        needs=("aiohttp",),
        label="kitmsg",
    ),
    Peer(
        "fastapi-faststream",
        "stream",
        "web /sum",
        "fast",
        codecs=_JSON,
        needs=("fastapi", "faststream", "uvicorn"),
        label="FastAPI + FastStream",
    ),
    Peer(
        "aiohttp-no-bus",
        "plain",
        "web /sum",
        codecs=_JSON,
        needs=("aiohttp",),
        label="aiohttp, no bus",
    ),
    Peer(
        "gokit",
        "go serve {url}",
        "web /sum",
        "go http {url} {address}",
        codecs=_JSON,
        label="Go kit",
    ),
)
"""Peers of `http`."""

WEBSOCKET: Final = (
    Peer(
        "kitmsg",
        "websocket kit",
        "websocket /echoer/echo",
        "gateway",
        codecs=_JSON,
        needs=("aiohttp",),
        label="kitmsg",
    ),
    Peer(
        "aiohttp-no-bus",
        "websocket plain",
        "websocket /echo",
        codecs=_JSON,
        needs=("aiohttp",),
        label="aiohttp, no bus",
    ),
)
"""Peers of `websocket`."""


GRPC: Final = (
    Peer(
        "kitmsg",
        "kit",
        "grpcio unary",
        "gateway grpc",
        codecs=_JSON,
        needs=("grpc",),
        label="kitmsg",
    ),
    Peer(
        "grpcio-no-bus",
        "grpcio unary",
        "grpcio unary",
        codecs=_JSON,
        needs=("grpc",),
        label="grpcio, no bus",
    ),
)
"""Peers of `grpc`."""

THRIFT: Final = (
    Peer(
        "kitmsg",
        "kit",
        "thriftpy",
        "gateway thrift",
        codecs=_JSON,
        needs=("thriftpy2",),
        label="kitmsg",
    ),
    Peer(
        "thriftpy2-no-bus",
        "thriftpy",
        "thriftpy",
        codecs=_JSON,
        needs=("thriftpy2",),
        label="thriftpy2, no bus",
    ),
)
"""Peers of `thrift`."""

STREAM: Final = (
    Peer("kitmsg", "tape", "tape", label="kitmsg", items=ITEMS),
    Peer(
        "grpcio",
        "grpcio items",
        "grpcio items",
        needs=("grpc",),
        label="grpcio",
        items=ITEMS,
    ),
)
"""Peers of `stream`, in items of 1 kB; one stream is a call."""


def available(
    peers: Sequence[Peer], wanted: Sequence[str] = (), *, go: str
) -> list[Peer]:
    """Return the `wanted` ones that can run here; says a sentence for each other.

    Args:
        peers: To choose from.
        wanted: Names; () for all.
        go: The Go program; "" without Go.

    Raises:
        ValueError: There is no peer of that name.
    """
    known = {peer.name: peer for peer in peers}
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        raise ValueError(f"no peer {unknown[0]!r}; there are {', '.join(known)}")
    chosen = []
    for peer in peers if not wanted else [known[name] for name in wanted]:
        missing = [name for name in peer.needs if not _is_there(name)]
        if not go and "go " in f"{peer.server} {peer.load} {peer.gateway}":
            missing.append("Go")
        if missing:
            text = f"{peer.name} is left out: it needs {', '.join(missing)}."
            print(text, file=sys.stderr)

        else:
            chosen.append(peer)
    return chosen


def _is_there(name: str) -> bool:
    """Tell whether a module is installed; it is not if what it is part of is not."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


class _Team:
    """One peer's processes."""

    def __init__(
        self, peer: Peer, setting: Setting, go: str, stack: contextlib.ExitStack
    ) -> None:
        self.peer = peer
        self._setting = setting._replace(port=free_port())
        self._go = go
        self._pids: dict[str, int] = {}
        for role, side in (("server", peer.server), ("gateway", peer.gateway)):
            if side:
                process = Process(self._command(side, "serve"))
                stack.callback(process.stop)
                self._pids[role] = process.pid
        self.load = Load(self._command(peer.load, "load"))
        stack.callback(self.load.stop)

    def measure(self, in_flight: int, calls: int, bus: int) -> Sample:
        """Measure once; `bus` is the process id of the NATS server."""
        pids = {**self._pids, "bus": bus}
        items = self.peer.items
        calls = max(in_flight, calls // items)
        if self.peer.prepares:
            self.load.prepare(in_flight, calls)
        before = {role: cpu_seconds(pid) for role, pid in pids.items()}
        measured = self.load.measure(in_flight, calls)
        count = measured["calls"] * items
        cpu = {
            role: (cpu_seconds(pid) - before[role]) / count
            for role, pid in pids.items()
        }
        return Sample(
            self.peer.name,
            self._setting.codec,
            in_flight,
            measured["rate"] * items,
            measured["p50"],
            measured["p99"],
            {"client": measured["cpu"] / items, **cpu},
        )

    def _command(self, side: str, what: str) -> list[str]:
        module, *words = side.split()
        address = f"127.0.0.1:{self._setting.port}"
        if module == "web" and self._go:
            module, words = "go", ["web", "{address}", *words]
        if module == "go":
            places = {"url": self._setting.url, "address": address}
            return [self._go, *(word.format(**places) for word in words)]
        module = "sockets" if module == "web" else module
        setting = self._setting._replace(variant=" ".join(words))
        return python_peer(module, what, setting)


def compare(
    peers: Sequence[Peer],
    *,
    codec: str,
    in_flight: Sequence[int],
    rounds: int,
    calls: int,
    go: str | None = None,
    jetstream: bool = False,
) -> list[Sample]:
    """Measure `peers` in turns.

    Args:
        peers: Those that can speak `codec` take part.
        codec: ``json`` or ``msgpack``.
        in_flight: Calls at once; everything is done for each of them.
        rounds: How often each peer is measured.
        calls: Calls in each measurement; a quarter of it with one in flight.
        go: The Go program; built when None.
        jetstream: Whether the NATS server stores.
    """
    go = gokit() if go is None else go
    samples: list[Sample] = []
    with contextlib.ExitStack() as stack:
        bus = stack.enter_context(EmbeddedServer(jetstream=jetstream))
        setting = Setting(bus.url, codec)
        able = [peer for peer in peers if codec in peer.codecs]
        teams = [_Team(peer, setting, go, stack) for peer in able]
        for number in in_flight:
            count = max(number, calls if number > 1 else calls // _LATENCY_SHARE)
            for team in teams:
                team.measure(number, max(number, count // _WARM_UP_SHARE), bus.pid)
            for team in _in_turns(teams, rounds):
                _progress(f"{number} in flight, {codec}: {team.peer.name}")
                samples.append(team.measure(number, count, bus.pid))
    _progress("")
    return samples


def _in_turns(teams: list[_Team], rounds: int) -> Iterator[_Team]:
    for number in range(rounds):
        first = number % len(teams)  # nobody always comes first
        yield from teams[first:] + teams[:first]


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def summary(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Return medians for each peer, and what the first one is to it: the ratios.

    Ratios of rate are better high, those of p50 and CPU better low.
    """
    rows: list[dict[str, Any]] = []
    for codec, in_flight in dict.fromkeys((s.codec, s.in_flight) for s in samples):
        here = [s for s in samples if (s.codec, s.in_flight) == (codec, in_flight)]
        first = [s for s in here if s.peer == here[0].peer]
        for name in dict.fromkeys(s.peer for s in here):
            theirs = [s for s in here if s.peer == name]
            rows.append(
                {"codec": codec, "in_flight": in_flight, **_facts(theirs, first)}
            )
    return rows


def _facts(theirs: Sequence[Sample], ours: Sequence[Sample]) -> dict[str, Any]:
    def of(samples: Sequence[Sample], role: str) -> list[float]:
        return [s.cpu.get(role, 0.0) for s in samples]

    return {
        "peer": theirs[0].peer,
        "rate": median(s.rate for s in theirs),
        "p50": median(s.p50 for s in theirs),
        "p99": median(s.p99 for s in theirs),
        "cpu": {r: median(of(theirs, r)) for r in _ROLES if r in theirs[0].cpu},
        "ratios": {
            "rate": table.ratio([s.rate for s in ours], [s.rate for s in theirs]),
            "p50": table.ratio([s.p50 for s in ours], [s.p50 for s in theirs]),
            "server_cpu": table.ratio(of(ours, "server"), of(theirs, "server")),
        },
    }


def report(rows: Sequence[dict[str, Any]]) -> str:
    """Return tables of what `summary` found, one for each codec and load."""
    parts = []
    for codec, in_flight in dict.fromkeys((r["codec"], r["in_flight"]) for r in rows):
        here = [r for r in rows if (r["codec"], r["in_flight"]) == (codec, in_flight)]
        roles = [role for role in _ROLES if any(role in r["cpu"] for r in here)]
        first = here[0]["peer"]
        head = [
            *("peer", "req/s", "p50 us", "p99 us"),
            *(f"{role} CPU us" for role in roles),
            *(f"{first}: req/s x", "p50 x", "server CPU x"),
        ]
        lines = [_line(row, roles) for row in here]
        parts.append(f"{in_flight} in flight, {codec}\n\n{table.draw(head, lines)}\n")
    return "\n".join(parts)


def _line(row: dict[str, Any], roles: Sequence[str]) -> list[str]:
    return [
        row["peer"],
        f"{row['rate']:,.0f}",
        table.micros(row["p50"]),
        table.micros(row["p99"]),
        *(table.micros(row["cpu"].get(role)) for role in roles),
        *("" if value is None else str(value) for value in row["ratios"].values()),
    ]
