"""Promises with a number in them, each measured: ``python -m benchmarks figures``.

    starts.py    import time, the first answer of ``kitmsg dev``, a worker's memory
    asks.py      many at once, many one after the other, far too many
    failures.py  workers replaced, a worker killed, the NATS server killed
    events.py    a slow reader of a stream over HTTP, many idle ones
    offered.py   asks at a steady rate, and how each ended
    services.py  what they ask
    sequence.py  a client whose memory is watched

They run one after the other, since each wants the machine for itself.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from benchmarks import table
from benchmarks.figures import asks, events, failures, starts

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from benchmarks.figures.figure import Figure

__all__ = ["measure", "report"]

_ALL: Final[dict[str, Callable[[bool], Iterator[Figure]]]] = {
    "import": starts.import_time,
    "dev": starts.first_answer,
    "rest": starts.at_rest,
    "many": asks.many_at_once,
    "long": asks.one_after_the_other,
    "overload": asks.overload,
    "rolling": failures.rolling_restart,
    "kill": failures.killed_worker,
    "outage": failures.outage,
    "sse-memory": events.slow_reader,
    "sse-idle": events.idle_readers,
}


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return each figure as plain objects.

    Raises:
        ValueError: `options.only` names something else.
    """
    unknown = sorted(set(options.only) - set(_ALL))
    if unknown:
        raise ValueError(f"no figure {unknown[0]!r}; there are {', '.join(_ALL)}")
    rows = []
    for name, figures in _ALL.items():
        if options.only and name not in options.only:
            continue
        print(f"figures: {name}", file=sys.stderr, flush=True)
        rows += [{"name": name, **f._asdict()} for f in figures(options.quick)]
    return rows


def report(rows: list[dict[str, Any]]) -> str:
    """Return the table: what, wanted, measured."""
    words = {True: "yes", False: "NO", None: ""}
    lines = [
        (row["what"], row["wanted"], row["measured"], words[row["is_met"]])
        for row in rows
    ]
    return table.draw(("what", "wanted", "measured", "met"), lines) + "\n"
