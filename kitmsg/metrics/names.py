"""Names of metrics and labels: those that a page can hold, checked where they are declared.

One that it cannot would cost a reader the whole page, not the metric alone.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["check_bounds", "check_names", "names_on_a_page"]

_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OF_HISTOGRAMS: Final = ("le", "quantile")
_TOTAL: Final = "_total"


def check_names(kind: str, name: str, labels: Sequence[str]) -> None:
    """Check the name of a metric, and those of its labels.

    Raises:
        ValueError: One is none, is a format's own, or stands twice.
    """
    for each in (name, *labels):
        if not _NAME.fullmatch(each) or name == _TOTAL:
            raise ValueError(f"{each!r} is no name: letters, digits and _ only")
    for label in labels:
        if label.startswith("__") or (kind == "histogram" and label in _OF_HISTOGRAMS):
            raise ValueError(
                f"{name} cannot have a label {label!r}: it is the format's own"
            )
    if len(set(labels)) < len(labels):
        raise ValueError(f"{name} has a label twice: {', '.join(labels)}")


def check_bounds(name: str, bounds: Sequence[float]) -> None:
    """Check the bounds of a histogram.

    Raises:
        ValueError: They do not rise, or one is no finite number.
    """
    edges = (float("-inf"), *bounds, float("inf"))  # what is beyond has its own bucket
    if any(not low < high for low, high in pairwise(edges)):
        raise ValueError(
            f"bounds of {name} must rise and be finite, not {tuple(bounds)}"
        )


def names_on_a_page(kind: str, name: str) -> tuple[str, ...]:
    """Return the names that a metric's family and samples have, in any format."""
    if kind == "counter":
        return name, name.removesuffix(_TOTAL)
    if kind == "histogram":
        return name, f"{name}_bucket", f"{name}_count", f"{name}_sum"
    return (name,)
