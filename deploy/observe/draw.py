"""Draws the dashboard as an SVG, from its JSON and what a Prometheus knows.

    python deploy/observe/draw.py http://127.0.0.1:9090 docs/dashboard.svg --minutes 15

For documentation, where no Grafana runs: the panels, queries, units and places are those of
``grafana/kitmsg.json``, the style is not Grafana's.  It needs Python and nothing else.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from html import escape
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode
from urllib.request import urlopen

__all__ = ["main", "picture"]

BOARD: Final = Path(__file__).parent / "grafana/kitmsg.json"
_COLUMN: Final = 50  # pixels of one of the 24 columns
_LINE: Final = 28  # pixels of one unit of height
_STEPS: Final = 120  # points of a line
_LEGENDS: Final = 4
_KILO: Final = 1000
_PALETTE: Final = (
    *("#1a7f64", "#d9822b", "#3b6fd4", "#b8433a"),
    *("#7f5ab8", "#c2a200", "#2b95a8", "#8a6b52"),
)
_STYLE: Final = """
text { font: 12px system-ui, sans-serif; fill: #1f2328; }
.row { font-size: 14px; font-weight: 600; }
.title { font-weight: 600; }
.note { font-size: 10px; fill: #59636e; }
.stat { font-size: 30px; font-weight: 600; fill: #1a7f64; }
.panel { fill: #ffffff; stroke: #d0d7de; }
.axis { stroke: #d0d7de; stroke-width: 0.5; }
.line { fill: none; stroke-width: 1.5; }
"""


class Series(NamedTuple):
    """One line of a panel: its legend and its points (Unix seconds, value)."""

    legend: str
    points: list[tuple[float, float]]


def main() -> None:
    """Draw the dashboard into a file."""
    parser = argparse.ArgumentParser(description="Draw the dashboard as an SVG.")
    parser.add_argument("prometheus", help="URL of a Prometheus")
    parser.add_argument("file", type=Path, help="where to")
    parser.add_argument("--minutes", type=float, default=15.0, help="how far back")
    options = parser.parse_args()
    svg = picture(options.prometheus, options.minutes * 60)
    options.file.write_text(svg, encoding="utf-8")


def picture(url: str, seconds: float, *, end: float | None = None) -> str:
    """Return the dashboard as an SVG.

    Args:
        url: Of a Prometheus.
        seconds: How far back it looks.
        end: Until when, in Unix seconds; by default now.
    """
    board = json.loads(BOARD.read_text(encoding="utf-8"))
    until = time.time() if end is None else end
    span = (until - seconds, until)
    parts = [_panel(url, panel, span) for panel in board["panels"]]
    bottom = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in board["panels"])
    width, height = 24 * _COLUMN, bottom * _LINE + 4
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
            f' width="{width}" height="{height}" role="img">',
            f"<title>{escape(board['title'])}: the dashboard</title>",
            f"<style>{_STYLE}</style>",
            *parts,
            "</svg>",
            "",
        ]
    )


def _panel(url: str, panel: dict[str, Any], span: tuple[float, float]) -> str:
    place = panel["gridPos"]
    x, y = place["x"] * _COLUMN, place["y"] * _LINE
    width, height = place["w"] * _COLUMN - 8, place["h"] * _LINE - 8
    title = escape(panel["title"])
    if panel["type"] == "row":
        return f'<text class="row" x="{x + 4}" y="{y + 18}">{title}</text>'
    found = [one for target in panel["targets"] for one in _series(url, target, span)]
    unit = panel["fieldConfig"]["defaults"]["unit"]
    inner = (
        _stat(found, unit, height)
        if panel["type"] == "stat"
        else _graph(found, unit, (width, height), span)
    )
    return (
        f'<g transform="translate({x + 4},{y + 4})">'
        f'<rect class="panel" width="{width}" height="{height}" rx="4"/>'
        f'<text class="title" x="10" y="20">{title}</text>{inner}</g>'
    )


def _stat(found: list[Series], unit: str, height: int) -> str:
    texts = " / ".join(_shown(one.points[-1][1], unit) for one in found[:2])
    return f'<text class="stat" x="10" y="{height - 24}">{texts or "-"}</text>'


def _graph(
    found: list[Series], unit: str, size: tuple[int, int], span: tuple[float, float]
) -> str:
    """Return the lines of a panel, its axis from zero, and the legends of the highest."""
    width, height = size
    left, top, right, bottom = 62, 32, width - 12, height - 22 - 14 * _LEGENDS
    found = sorted(found, key=lambda one: -max(value for _, value in one.points))
    most = max((value for one in found for _, value in one.points), default=0.0) or 1.0
    parts = []
    for share in (0.0, 0.5, 1.0):
        level = bottom - share * (bottom - top)
        label = _shown(most * share, unit)
        parts.append(
            f'<line class="axis" x1="{left}" x2="{right}" y1="{level}" y2="{level}"/>'
            f'<text class="note" x="{left - 4}" y="{level + 3}" text-anchor="end">'
            f"{label}</text>"
        )
    for number, one in enumerate(found):
        colour = _PALETTE[number % len(_PALETTE)]
        dots = " ".join(
            f"{left + (at - span[0]) / (span[1] - span[0]) * (right - left):.0f},"
            f"{bottom - value / most * (bottom - top):.0f}"
            for at, value in one.points
        )
        parts.append(f'<polyline class="line" stroke="{colour}" points="{dots}"/>')
        if number < _LEGENDS:
            line = bottom + 18 + 14 * number
            last = _shown(one.points[-1][1], unit)
            parts.append(
                f'<rect x="10" y="{line - 7}" width="10" height="3" fill="{colour}"/>'
                f'<text class="note" x="26" y="{line - 2}">{escape(one.legend)}'
                f" {last}</text>"
            )
    return "".join(parts)


def _series(
    url: str, target: dict[str, Any], span: tuple[float, float]
) -> list[Series]:
    query = re.sub(r"\$(service|gateway)", ".*", target["expr"])
    step = max(1.0, (span[1] - span[0]) / _STEPS)
    asked = {
        "query": query.replace("$__rate_interval", f"{max(5, round(4 * step))}s"),
        "start": span[0],
        "end": span[1],
        "step": step,
    }
    with urlopen(f"{url}/api/v1/query_range?{urlencode(asked)}", timeout=30) as answer:  # noqa: S310  # the user's own
        result = json.load(answer)["data"]["result"]
    found = []
    for one in result:
        legend = _legend(target["legendFormat"], one["metric"])
        pairs = [(at, float(value)) for at, value in one["values"]]
        points = [(at, value) for at, value in pairs if value == value]  # noqa: PLR0124  # NaN
        if points:
            found.append(Series(legend, points))
    return found


def _legend(form: str, labels: dict[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), form)


def _shown(value: float, unit: str) -> str:
    """Return a value with its unit, short."""
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s":
        return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"
    sizes = ((1 << 30, " GB"), (1 << 20, " MB"), (1 << 10, " kB"))
    if unit == "bytes":
        size, name = next(((s, n) for s, n in sizes if value >= s), (1, " B"))
        return f"{value / size:.3g}{name}"
    per = {"reqps": "/s", "ops": "/s"}.get(unit, "")
    text = f"{value:.3g}" if abs(value) < _KILO else f"{value:.0f}"
    return f"{text}{per}"


if __name__ == "__main__":
    main()
