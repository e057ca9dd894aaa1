"""Metric families: names, labels and values, as a backend reads them.  No I/O, no format.

Whatever counts keeps plain integers and makes families of them when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Collect", "Family", "Registry", "Sample", "counter", "gauge"]

Sample: TypeAlias = tuple[str, dict[str, str], float]
"""A sample: the suffix of its family's name, its labels, its value."""


@dataclass(slots=True)
class Family:
    """One metric.

    Attributes:
        name: Without what a format appends to it; of a counter with ``_total``.
        kind: As Prometheus has it.
        text: Its meaning, for people.
        samples: Its values.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    samples: list[Sample] = field(default_factory=list)

    def add(self, value: float, **labels: str) -> None:
        """Add a sample."""
        self.samples.append(("", labels, value))


Collect: TypeAlias = Callable[[], Iterable[Family]]
"""Makes families of what was counted."""


class Registry:
    """The metrics that are shown together; those of one name become one family."""

    def __init__(self) -> None:
        self._collectors: list[Collect] = []

    def register(self, collect: Collect) -> None:
        """Show what `collect` makes, too."""
        self._collectors.append(collect)

    def collect(self) -> Iterator[Family]:
        """Yield all families."""
        found: dict[str, Family] = {}
        for collect in self._collectors:
            for family in collect():
                there = found.setdefault(family.name, family)
                if there is not family:
                    there.samples += family.samples
        yield from found.values()


def counter(name: str, text: str) -> Family:
    """Return a family of counters; `name` ends in ``_total``."""
    return Family(name, "counter", text)


def gauge(name: str, text: str) -> Family:
    """Return a family of gauges."""
    return Family(name, "gauge", text)
