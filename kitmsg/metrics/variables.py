"""Families as JSON, as Go's expvar shows them at ``/debug/vars``.

``{"orders_placed_total": {"country=de": 3.0}, "jobs_waiting": 4.0, "tries": {"count": 2,
"sum": 5.0, "p50": 2.0, ...}}``
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from kitmsg.metrics.graphite import QUANTILES
from kitmsg.metrics.spread import quantile, spread

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kitmsg.metrics.families import Distribution, Family

__all__ = ["JSON_TYPE", "render", "variables"]

JSON_TYPE: Final = "application/json"
_MOST_VALUES: Final = 1_000


def variables(families: Iterable[Family]) -> dict[str, Any]:
    """Return values by name, and where there are labels by ``label=value,label=value``.

    A histogram has ``count``, ``sum`` and the quantiles of all its observations.
    """
    shown: dict[str, Any] = {}
    for family in families:
        values: list[tuple[Mapping[str, str], Any]] = [*family.samples]
        values += [(each.labels, _histogram(each)) for each in family.distributions]
        if len(values) == 1 and not values[0][0]:
            shown[family.name] = values[0][1]
        elif values:
            shown[family.name] = {_key(labels): value for labels, value in values}
    return shown


def render(families: Iterable[Family]) -> bytes:
    """Return the page."""
    return msgspec.json.encode(variables(families)) + b"\n"


def _key(labels: Mapping[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in labels.items())


def _histogram(each: Distribution) -> dict[str, float]:
    facts: dict[str, float] = {"count": each.count, "sum": each.total}
    values = spread(each.buckets(), each.total, _MOST_VALUES)
    if values:
        facts |= {name: quantile(values, q) for name, q in QUANTILES.items()}
    return facts
