"""Tables for people, and ratios with their spread."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Ratio", "draw", "micros", "ratio"]


class Ratio(msgspec.Struct, frozen=True):
    """How many times one is the other, over the rounds.

    Attributes:
        median: Of the rounds' ratios.
        least: The smallest.
        most: The largest.
    """

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f}..{self.most:.2f})"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio | None:
    """Return ours / theirs, round by round; None where theirs is nothing."""
    if not theirs or not all(theirs):
        return None
    each = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Ratio(median(each), min(each), max(each))


def micros(seconds: float | None) -> str:
    """Return `seconds` in microseconds, "" for None."""
    return "" if seconds is None else f"{seconds * 1e6:,.1f}"


def draw(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table: first column to the left, the others to the right."""
    texts = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in texts
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
