"""Events beside their peers: stored and consumed, told, heard; and calls beside them.

Each part has its peers in turns, as `compare` has them, on a NATS server that stores.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from benchmarks import goals, table
from benchmarks.compare import Peer, Sample, available, compare

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

__all__ = ["PARTS", "measure", "report"]

_JSON: Final = ("json",)
_FASTSTREAM: Final = ("faststream",)
_ROLES: Final = ("client", "server", "bus")


def _peer(name: str, load: str, server: str = "", needs: tuple[str, ...] = ()) -> Peer:
    return Peer(name, server, load, codecs=_JSON, needs=needs, prepares=True)


@dataclass(frozen=True)
class Part:
    """A row of what is wanted, with its peers; the first is compared with the others.

    Attributes:
        name: For ``--only``.
        title: In tables.
        in_flight: At once.
        peers: The peers.
        share: Events, as a part of ``--calls``.
    """

    name: str
    title: str
    in_flight: int
    peers: tuple[Peer, ...]
    share: float = 1.0


PARTS: Final = (
    Part(
        "consume",
        "consume what is stored, one by one, acknowledged",
        1,
        (
            _peer("kitmsg", "events.kit consume"),
            _peer("faststream-push", "events.stream consume-push", "", _FASTSTREAM),
            _peer("faststream-pull", "events.stream consume", "", _FASTSTREAM),
            _peer("nats-py", "events.natspy consume"),
        ),
    ),
    Part(
        "batches",
        "consume what is stored, as lists of 256, acknowledged",
        1,
        (
            _peer("kitmsg", "events.kit batches"),
            _peer("faststream", "events.stream consume-batch", "", _FASTSTREAM),
        ),
    ),
    Part(
        "publish",
        "publish, acknowledged",
        64,
        (
            _peer("kitmsg", "events.kit publish"),
            _peer("nats-py", "events.natspy publish"),
            _peer("nats-py-id", "events.natspy publish-id"),
        ),
    ),
    Part(
        "many",
        "publish many, acknowledged",
        1,
        (
            _peer("kitmsg", "events.kit many"),
            _peer("nats-py", "events.natspy many"),
        ),
        4.0,  # one in flight would be a quarter
    ),
    Part(
        "deliver",
        "from publish to handler, one at a time",
        1,
        (
            _peer("kitmsg", "events.kit deliver"),
            _peer("nats-py", "events.natspy deliver"),
        ),
        0.5,
    ),
    Part(
        "tell",
        "a tell, accepted, beside an acknowledged publish",
        1,
        (
            _peer("kitmsg", "events.kit tell"),
            _peer("nats-py", "events.natspy publish"),
            _peer("nats-py-id", "events.natspy publish-id"),
        ),
        0.5,
    ),
    Part(
        "hear",
        "hear what is not stored",
        1,
        (
            _peer("kitmsg", "events.kit hear", "events.flood kit"),
            _peer(
                "faststream",
                "events.stream hear",
                "events.flood faststream",
                _FASTSTREAM,
            ),
        ),
        4.0,
    ),
    Part(
        "rpc",
        "calls to a service that subscribes, idle",
        64,
        (
            _peer("kitmsg", "events.kit rpc-events", "events.kit rpc-events"),
            _peer("kitmsg-without", "events.kit rpc", "events.kit rpc"),
        ),
    ),
)
"""The parts that are measured."""


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each peer of each part.

    Args:
        options: ``--only`` picks parts; ``--calls`` and ``--rounds`` say how much.

    Raises:
        ValueError: There is no part of that name.
    """
    known = {part.name: part for part in PARTS}
    for name in options.only:
        if name not in known:
            raise ValueError(
                f"no part {name!r} of events; there are {', '.join(known)}"
            )
    chosen = [known[name] for name in options.only] or PARTS
    rows: list[dict[str, Any]] = []
    for part in chosen:
        peers = available(part.peers, go="")
        samples = compare(
            peers,
            codec="json",
            in_flight=[part.in_flight],
            rounds=options.rounds,
            calls=max(part.in_flight, int(options.calls * part.share)),
            go="",
            jetstream=True,
        )
        rows += _rows(part, samples)
    return rows


def _rows(part: Part, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    reached = goals.check(f"events {part.name}", samples)
    rows: list[dict[str, Any]] = []
    first = [s for s in samples if s.peer == samples[0].peer]
    for name in dict.fromkeys(s.peer for s in samples):
        theirs = [s for s in samples if s.peer == name]
        rows.append(
            {
                "part": part.name,
                "peer": name,
                "rate": _spread([s.rate for s in theirs]),
                "p50": _spread([s.p50 for s in theirs]),
                "cpu": {
                    role: median(s.cpu.get(role, 0.0) for s in theirs)
                    for role in _ROLES
                },
                "ratios": {
                    "rate": table.ratio(_rates(first), _rates(theirs)),
                    "p50": table.ratio([s.p50 for s in first], [s.p50 for s in theirs]),
                    "cpu": table.ratio(
                        [s.cpu["client"] for s in first],
                        [s.cpu["client"] for s in theirs],
                    ),
                },
                "goals": [goal for goal in reached if goal["theirs"] == name],
            }
        )
    return rows


def _rates(samples: Sequence[Sample]) -> list[float]:
    return [s.rate for s in samples]


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    return median(values), min(values), max(values)


def report(rows: Sequence[dict[str, Any]]) -> str:
    """Return a table for each part, and one of what was wanted."""
    titles = {part.name: part.title for part in PARTS}
    texts = []
    for name in dict.fromkeys(row["part"] for row in rows):
        here = [row for row in rows if row["part"] == name]
        head = (
            *("peer", "per second", "(least..most)", "p50 us"),
            *("client CPU us", "server CPU us", "bus CPU us"),
            *(f"{here[0]['peer']}: rate x", "p50 x", "client CPU x"),
        )
        texts.append(f"{titles[name]}\n\n{table.draw(head, _lines(here))}\n")
    reached = [
        {**goal, "ours": f"{row['part']}: {goal['ours']}"}
        for row in rows
        for goal in row["goals"]
    ]
    return "\n".join(texts) + goals.report(reached)


def _lines(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    lines = []
    for row in rows:
        middle, least, most = row["rate"]
        ratios = row["ratios"].values()
        lines.append(
            [
                row["peer"],
                f"{middle:,.0f}",
                f"{least:,.0f}..{most:,.0f}",
                table.micros(row["p50"][0] or None),
                *(table.micros(row["cpu"][role] or None) for role in _ROLES),
                *("" if value is None else str(value) for value in ratios),
            ]
        )
    return lines
