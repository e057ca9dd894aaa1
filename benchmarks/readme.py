"""Writes the speed chart and its paragraph in the README, both from the figures of one run.

    python -m benchmarks rpc --in-flight 64 --rounds 5 --readme

keeps the figures in ``docs/rpc.json``; `chart_of` and `text_of` make the rest of them, so a
test can hold the page to the file.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from benchmarks import chart, compare

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FIGURES", "chart_of", "text_of", "write"]

_ROOT: Final = Path(__file__).parents[1]
FIGURES: Final = _ROOT / "docs" / "rpc.json"
_CHARTED: Final = 64
_BESIDE: Final = {
    "gokit": "Go kit's NATS transport",
    "nats-py-uvloop": "plain nats-py on uvloop",
    "faststream": "FastStream's RPC",
}
_MARKED: Final = re.compile(
    r"(?<=<!-- figures -->\n).*?(?=<!-- /figures -->)", re.DOTALL
)


def chart_of(verb: str, rows: Sequence[dict[str, Any]]) -> str:
    """Return the bars of one load as SVG: 64 in flight where that was measured."""
    peers = compare.HTTP if verb == "http" else (*compare.RPC, *compare.LAYERS)
    labels = {peer.name: peer.label for peer in peers}
    loads = list(dict.fromkeys((row["codec"], row["in_flight"]) for row in rows))
    chosen = next((load for load in loads if load[1] == _CHARTED), loads[0])
    shown = [
        (labels[row["peer"]], row["rate"])
        for row in rows
        if (row["codec"], row["in_flight"]) == chosen and labels.get(row["peer"])
    ]
    codec, in_flight = chosen
    what = "HTTP requests to the bus and back" if verb == "http" else "Calls over NATS"
    return chart.bars(
        f"{what}, per second",
        shown,
        note=f"{in_flight} in flight, {codec}; caller, server and service on one machine",
        ours="kitmsg",
    )


def text_of(rows: Sequence[dict[str, Any]], *, rounds: int) -> str:
    """Return the paragraph beside the chart of `rpc`, for 64 calls in flight.

    Raises:
        ValueError: That load, or a peer that the paragraph names, was not measured.
    """
    here = {
        r["peer"]: r for r in rows if (r["codec"], r["in_flight"]) == ("json", _CHARTED)
    }
    if missing := {"kitmsg", *_BESIDE} - set(here):
        raise ValueError(f"the README needs {', '.join(sorted(missing))}, 64 in flight")
    ratios = [(name, here[peer]["ratios"]["rate"]) for peer, name in _BESIDE.items()]
    times = [f"{r['median']:.1f} times {name}{_spread(r)}" for name, r in ratios]
    text = (
        "A typed `sum(a, b)`, JSON, 64 calls in flight, caller, server and bus on the same"
        " two cores, everything on that kitmsg has on by default. In one run of"
        f" {rounds} rounds the median was {here['kitmsg']['rate']:,.0f} calls a second:"
        f" {', '.join(times[:-1])} and {times[-1]}."
    )
    lines = textwrap.wrap(text, 96, break_long_words=False, break_on_hyphens=False)
    return "\n".join([*lines, ""])


def _spread(ratio: dict[str, float]) -> str:
    return f" ({ratio['least']:.1f} to {ratio['most']:.1f})"


def write(rows: Sequence[dict[str, Any]], *, rounds: int, root: Path = _ROOT) -> None:
    """Write ``docs/rpc.json``, ``docs/rpc.svg`` and the paragraph in the README.

    Raises:
        ValueError: As for `text_of`; nothing is written then.
    """
    plain = msgspec.to_builtins(rows)
    text = text_of(plain, rounds=rounds)
    page = root / "README.md"
    figures = msgspec.json.encode({"rounds": rounds, "rows": plain})
    (root / "docs" / "rpc.json").write_bytes(msgspec.json.format(figures) + b"\n")
    (root / "docs" / "rpc.svg").write_text(chart_of("rpc", plain))
    page.write_text(_MARKED.sub(lambda _: text, page.read_text(), count=1))
