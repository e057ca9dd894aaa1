"""What kitmsg wants to reach beside its peers, as ratios within one run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from benchmarks import table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.compare import Sample

__all__ = ["check", "report"]


class Goal(NamedTuple):
    """A bound on the ratio of `ours` to `theirs`.

    Attributes:
        verb: What measures it.
        ours: Peer.
        theirs: Peer.
        metric: ``rate``, which is better high, ``p50`` or ``server CPU``: better low.
        in_flight: Calls at once.
        bound: At least, for ``rate``; at most for the others.
    """

    verb: str
    ours: str
    theirs: str
    metric: str
    in_flight: int
    bound: float


_GOALS: Final = (
    Goal("rpc", "kitmsg", "gokit", "rate", 64, 1.0),
    Goal("rpc", "kitmsg-bare", "gokit", "rate", 64, 1.25),
    Goal("rpc", "kitmsg", "faststream", "rate", 64, 8.0),
    Goal("rpc", "kitmsg", "nats-py-uvloop", "rate", 64, 1.6),
    Goal("rpc", "kitmsg", "echo", "rate", 64, 0.6),
    Goal("rpc", "kitmsg", "gokit", "p50", 1, 1.2),
    # Not under nats-py's own load: a faster caller makes a server's work cheaper.
    Goal("rpc", "kitmsg", "echo->nats-py", "server CPU", 64, 1.1),
    Goal("http", "kitmsg", "fastapi-faststream", "rate", 32, 4.5),
    Goal("http", "kitmsg", "aiohttp-no-bus", "rate", 32, 0.8),
    Goal("http", "kitmsg", "gokit", "rate", 32, 1.0),
    Goal("grpc", "kitmsg", "grpcio-no-bus", "rate", 64, 0.65),
    Goal("thrift", "kitmsg", "thriftpy2-no-bus", "rate", 64, 0.8),
    Goal("stream", "kitmsg", "grpcio", "rate", 1, 2.0),
    Goal("stream", "kitmsg", "grpcio", "rate", 8, 2.0),
    Goal("websocket", "kitmsg", "aiohttp-no-bus", "rate", 256, 0.6),
    Goal("events consume", "kitmsg", "faststream-push", "rate", 1, 6.0),
    Goal("events consume", "kitmsg", "nats-py", "rate", 1, 0.8),
    Goal("events publish", "kitmsg", "nats-py", "rate", 64, 1.5),
    Goal("events many", "kitmsg", "nats-py", "rate", 1, 0.9),
    Goal("events deliver", "kitmsg", "nats-py", "p50", 1, 1.2),
    Goal("events tell", "kitmsg", "nats-py", "p50", 1, 1.3),
    Goal("events hear", "kitmsg", "faststream", "rate", 1, 6.0),
    Goal("events rpc", "kitmsg", "kitmsg-without", "rate", 64, 0.99),
    # Modes of one program: without an SDK, with 1 % sampled, with all exported.
    Goal("tracing", "none", "off", "rate", 64, 0.99),
    Goal("tracing", "some", "off", "rate", 64, 0.95),
    Goal("tracing", "all", "off", "rate", 64, 0.7),
)

_METRICS: Final[dict[str, Callable[[Sample], float]]] = {
    "rate": lambda sample: sample.rate,
    "p50": lambda sample: sample.p50,
    "server CPU": lambda sample: sample.cpu["server"],
}


def check(verb: str, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Return what came of each goal that these samples tell of; JSON alone counts."""
    rows = []
    for goal in (goal for goal in _GOALS if goal.verb == verb):
        ours = _values(goal, goal.ours, samples)
        theirs = _values(goal, goal.theirs, samples)
        found = table.ratio(ours, theirs) if ours else None
        if found is None:
            continue
        is_high = goal.metric == "rate"
        is_met = found.median >= goal.bound if is_high else found.median <= goal.bound
        rows.append({**goal._asdict(), "ratio": found, "is_met": is_met})
    return rows


def _values(goal: Goal, peer: str, samples: Sequence[Sample]) -> list[float]:
    metric = _METRICS[goal.metric]
    return [
        metric(s)
        for s in samples
        if (s.peer, s.codec, s.in_flight) == (peer, "json", goal.in_flight)
    ]


def report(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table of what `check` found; "" for nothing."""
    if not rows:
        return ""
    head = ("goal", "wanted", "measured", "met")
    lines = [
        (
            f"{row['ours']} / {row['theirs']}: {row['metric']}, {row['in_flight']} in flight",
            f"{'>=' if row['metric'] == 'rate' else '<='} {row['bound']:g}",
            row["ratio"],
            "yes" if row["is_met"] else "NO",
        )
        for row in rows
    ]
    return f"\n{table.draw(head, lines)}\n"
