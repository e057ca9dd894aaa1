"""Figures with an upper or a lower bound: their rows and their table."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from benchmarks import table

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["report", "row"]


def row(
    figure: str, values: Sequence[float], bound: float, *, is_least: bool = False
) -> dict[str, Any]:
    """Return the row of a figure.

    Args:
        figure: What it says, with its unit.
        values: One for each round.
        bound: The median is at most that.
        is_least: The median is at least that instead.
    """
    middle = statistics.median(values)
    return {
        "figure": figure,
        "median": middle,
        "least": min(values),
        "most": max(values),
        "bound": bound,
        "is_least": is_least,
        "is_met": middle >= bound if is_least else middle <= bound,
    }


def report(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table of rows made by `row`."""
    head = ("figure", "median", "range", "wanted", "met")
    lines = [
        (
            each["figure"],
            f"{each['median']:.3f}",
            f"{each['least']:.3f}..{each['most']:.3f}",
            f"{'>=' if each['is_least'] else '<='} {each['bound']:g}",
            "yes" if each["is_met"] else "NO",
        )
        for each in rows
    ]
    return table.draw(head, lines) + "\n"
