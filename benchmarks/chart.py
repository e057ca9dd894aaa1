"""A bar chart as SVG by hand: no dependency, readable on light and on dark pages."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["bars"]

_WIDTH: Final = 720
_LABEL: Final = 190
_NUMBER: Final = 80
_ROW: Final = 30
_BAR: Final = 18
_TOP: Final = 48
_BOTTOM: Final = 34

_STYLE: Final = """\
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.title { font-size: 15px; font-weight: 600; }
.note { font-size: 12px; fill: #59636e; }
.bar { fill: #8c959f; }
.ours { fill: #1a7f64; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .note { fill: #9198a1; }
  .bar { fill: #656c76; }
  .ours { fill: #3fb994; }
}"""


def bars(
    title: str, rows: Sequence[tuple[str, float]], *, note: str = "", ours: str = ""
) -> str:
    """Return an SVG document with a horizontal bar for each row, the longest first.

    Args:
        title: Stands above, and is what a screen reader says.
        rows: Label and number, not negative.
        note: Stands below.
        ours: Rows whose label begins so are in colour.
    """
    ordered = sorted(rows, key=lambda row: -row[1])
    most = max((number for _, number in ordered), default=0) or 1
    height = _TOP + _ROW * len(ordered) + _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
        f' width="{_WIDTH}" height="{height}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>\n{_STYLE}\n</style>",
        f'<text class="title" x="0" y="22">{escape(title)}</text>',
    ]
    for index, (label, number) in enumerate(ordered):
        is_ours = bool(ours) and label.startswith(ours)
        parts += _bar(_TOP + _ROW * index, label, number, number / most, is_ours)
    parts.append(f'<text class="note" x="0" y="{height - 10}">{escape(note)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _bar(top: int, label: str, number: float, share: float, ours: bool) -> list[str]:
    length = max(1.0, share * (_WIDTH - _LABEL - _NUMBER))
    kind = "bar ours" if ours else "bar"
    baseline = top + 14
    return [
        f'<text x="{_LABEL - 10}" y="{baseline}" text-anchor="end">{escape(label)}</text>',
        f'<rect class="{kind}" x="{_LABEL}" y="{top}" width="{length:.1f}"'
        f' height="{_BAR}" rx="2"/>',
        f'<text x="{_LABEL + length + 8:.1f}" y="{baseline}">{number:,.0f}</text>',
    ]
