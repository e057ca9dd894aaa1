"""What each default costs: CPU of one server per call, with it and without.

All variants of a service stand in one process, so that nothing but the layer differs, and
are called in many short rounds, each beside the full one.  What is shown is the median of
the differences, pair by pair, and the quartiles beside it: a machine that is busy with
something else disturbs single pairs, and both sides of each.
"""

from __future__ import annotations

import contextlib
import random
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, Final

from benchmarks import table
from benchmarks.fleet import Load, Process, cpu_seconds, python_peer
from benchmarks.peers import Setting
from benchmarks.peers.kit import LAYERS
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.service.declare import DEFAULTS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

__all__ = ["measure", "report"]

_CALLS: Final = 2_000
_ROUNDS: Final = 30
_LEAST_ROUNDS: Final = 2  # of one there are no quartiles
_IN_FLIGHT: Final = 64
_WANTED: Final = 0.08


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the CPU per call with all defaults, and what each adds to that."""
    variants = [*sorted(DEFAULTS), "bare"]
    calls = min(options.calls, _CALLS)
    rounds = max(_LEAST_ROUNDS, options.rounds * _ROUNDS // 3)
    pairs: dict[str, list[tuple[float, float]]] = {variant: [] for variant in variants}
    chance = random.Random(rounds)  # noqa: S311  # nobody shall always come first
    with contextlib.ExitStack() as stack:
        bus = stack.enter_context(EmbeddedServer(jetstream=False))
        team = _Team(Setting(bus.url, options.codec[0]), ["", *variants], calls, stack)
        for number in range(rounds):
            for variant in chance.sample(variants, len(variants)):
                if number % 2:
                    full, without = team.cost(""), team.cost(variant)
                else:
                    without, full = team.cost(variant), team.cost("")
                pairs[variant].append((full, without))
    return _rows(pairs)


class _Team:
    """One server of all variants, and a caller for each."""

    def __init__(
        self,
        setting: Setting,
        variants: Sequence[str],
        calls: int,
        stack: contextlib.ExitStack,
    ) -> None:
        self._calls = calls
        self._server = Process(
            python_peer("kit", "serve", setting._replace(variant=LAYERS))
        )
        stack.callback(self._server.stop)
        self._loads: dict[str, Load] = {}
        for variant in variants:
            load = Load(python_peer("kit", "load", setting._replace(variant=variant)))
            stack.callback(load.stop)
            load.measure(_IN_FLIGHT, calls)
            self._loads[variant] = load

    def cost(self, variant: str) -> float:
        """Return the server's CPU per call, in seconds."""
        before = cpu_seconds(self._server.pid)
        measured = self._loads[variant].measure(_IN_FLIGHT, self._calls)
        return (cpu_seconds(self._server.pid) - before) / measured["calls"]


def _rows(pairs: dict[str, list[tuple[float, float]]]) -> list[dict[str, Any]]:
    all_full = [full for each in pairs.values() for full, _ in each]
    rows: list[dict[str, Any]] = [
        {"layer": "all defaults", "seconds": median(all_full)}
    ]
    for variant, each in pairs.items():
        # Each pair's own difference, in shares of what a call costs without.
        added = [full / without - 1 for full, without in each]
        low, middle, high = quantiles(added, n=4)
        rows.append(
            {
                "layer": "all together" if variant == "bare" else variant,
                "seconds": median(without for _, without in each),
                "added": middle,
                "low": low,
                "high": high,
                "is_met": variant == "bare" or middle <= _WANTED,
            }
        )
    return rows


def report(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table of what `measure` found."""
    full, *layers = rows
    head = ("layer", "us without", "adds", "quartiles", "met")
    lines = [
        (
            row["layer"],
            table.micros(row["seconds"]),
            f"{row['added']:+.1%}",
            f"{row['low']:+.1%}..{row['high']:+.1%}",
            "" if row["layer"] == "all together" else "yes" if row["is_met"] else "NO",
        )
        for row in layers
    ]
    return (
        f"Server CPU per call, all defaults: {table.micros(full['seconds'])} us;"
        f" {_IN_FLIGHT} in flight\n\n{table.draw(head, lines)}\n\n"
        f"wanted: at most {_WANTED:+.0%} each\n"
    )
