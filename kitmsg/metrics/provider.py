"""Counter, Gauge, Histogram, Provider: the seam between code that counts and a backend.

Instruments are write-only, and a dependency like any other: a service takes a `Provider` in
its constructor, never a global.  After Go kit's ``metrics``.

    class Orders(Service):
        def __init__(self, metrics: Provider) -> None:
            placed = metrics.counter("orders_placed_total", labels=("country",))
            self.placed_here = placed.labels(country="de")  # bound once, where it is made
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from kitmsg.metrics.stats import BOUNDS_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Counter", "Gauge", "Histogram", "Provider"]


class Counter(Protocol):
    """A number that only rises."""

    def labels(self, **labels: str) -> Counter:
        """Return the counter with these labels bound, besides those that are.

        The one it is called on stays as it was.  Equal labels, in any order, are one series.

        Raises:
            ValueError: A label was not declared, or is bound already.
        """
        ...

    def add(self, amount: float = 1.0, /) -> None:
        """Add `amount`.

        Raises:
            ValueError: It is negative or no finite number, or a label is not bound.
        """
        ...


class Gauge(Protocol):
    """A number that rises and falls; it keeps its value however often it is read."""

    def labels(self, **labels: str) -> Gauge:
        """Return the gauge with these labels bound, as `Counter.labels`."""
        ...

    def set(self, value: float, /) -> None:
        """Make it `value`, unless that is no finite number."""
        ...

    def add(self, amount: float = 1.0, /) -> None:
        """Add `amount`, which may be negative."""
        ...


class Histogram(Protocol):
    """A distribution of observations: durations in seconds, sizes in bytes."""

    def labels(self, **labels: str) -> Histogram:
        """Return the histogram with these labels bound, as `Counter.labels`."""
        ...

    def observe(self, value: float, /) -> None:
        """Count one observation; one that is not a number is not counted."""
        ...


@runtime_checkable
class Provider(Protocol):
    """Makes instruments; asked twice for one name, it gives the same instrument.

    Names are those of Prometheus: letters, digits and ``_``, with the unit at the end.  At
    most 1,000 series of a name are kept; later ones are counted together, under labels that
    are all ``other``.

    Every method raises `ValueError` for a name or label that is none or a format's own
    (``le``, ``quantile``, ``__...``), and for a name that stands for another kind, has other
    labels, or is that of another's samples.
    """

    def counter(
        self, name: str, text: str = "", /, *, labels: Sequence[str] = ()
    ) -> Counter:
        """Return a counter.

        Args:
            name: With ``_total`` at its end; it is added where it is missing.
            text: Its meaning, for people.
            labels: Names of the labels that each series has.
        """
        ...

    def gauge(
        self, name: str, text: str = "", /, *, labels: Sequence[str] = ()
    ) -> Gauge:
        """Return a gauge."""
        ...

    def histogram(
        self,
        name: str,
        text: str = "",
        /,
        *,
        labels: Sequence[str] = (),
        bounds: Sequence[float] = BOUNDS_SECONDS,
    ) -> Histogram:
        """Return a histogram.

        Args:
            name: With its unit.
            text: Its meaning, for people.
            labels: Names of the labels that each series has.
            bounds: Upper bounds of its buckets, rising and finite; by default for durations
                in seconds.
        """
        ...
