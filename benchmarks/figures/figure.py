"""One promise and what came of it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Figure"]


class Figure(NamedTuple):
    """One promise and what came of it.

    Attributes:
        what: What was measured.
        wanted: The promise.
        measured: What came of it, for people.
        value: The same for machines; its unit is in `what` or `wanted`.
        is_met: Whether the promise was kept; None where nothing is promised.
    """

    what: str
    wanted: str
    measured: str
    value: float
    is_met: bool | None
