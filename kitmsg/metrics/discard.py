"""A provider whose instruments count nothing: the default of code that is given none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from kitmsg.metrics.stats import BOUNDS_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DISCARD", "Discard"]


class _Nothing:
    """An instrument of every kind."""

    def labels(self, **_: str) -> Self:
        return self

    def add(self, amount: float = 1.0, /) -> None:
        pass

    def set(self, value: float, /) -> None:
        pass

    def observe(self, value: float, /) -> None:
        pass


class Discard:
    """A `kitmsg.metrics.Provider` that keeps nothing, and so checks nothing either."""

    def counter(
        self, _name: str, _text: str = "", /, *, labels: Sequence[str] = ()
    ) -> _Nothing:
        """Return a counter."""
        return _NOTHING

    def gauge(
        self, _name: str, _text: str = "", /, *, labels: Sequence[str] = ()
    ) -> _Nothing:
        """Return a gauge."""
        return _NOTHING

    def histogram(
        self,
        _name: str,
        _text: str = "",
        /,
        *,
        labels: Sequence[str] = (),
        bounds: Sequence[float] = BOUNDS_SECONDS,
    ) -> _Nothing:
        """Return a histogram."""
        return _NOTHING


_NOTHING = _Nothing()
DISCARD = Discard()
"""One for everybody: it has no state."""
