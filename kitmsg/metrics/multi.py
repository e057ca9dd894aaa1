"""A provider that counts in several others, as while one system replaces another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from kitmsg.metrics.stats import BOUNDS_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kitmsg.metrics.provider import Provider

__all__ = ["Multi"]


class _All:
    """One instrument of each provider, of one kind."""

    __slots__ = ("_each",)

    def __init__(self, each: Iterable[Any]) -> None:
        self._each = tuple(each)

    def labels(self, **labels: str) -> Self:
        return type(self)(each.labels(**labels) for each in self._each)

    def add(self, amount: float = 1.0, /) -> None:
        for each in self._each:
            each.add(amount)

    def set(self, value: float, /) -> None:
        for each in self._each:
            each.set(value)

    def observe(self, value: float, /) -> None:
        for each in self._each:
            each.observe(value)


class Multi:
    """A `kitmsg.metrics.Provider` over others.

    Args:
        providers: Each gets everything.
    """

    def __init__(self, *providers: Provider) -> None:
        self._providers = providers

    def counter(
        self, name: str, text: str = "", /, *, labels: Sequence[str] = ()
    ) -> _All:
        """Return a counter in each of them."""
        return _All(p.counter(name, text, labels=labels) for p in self._providers)

    def gauge(
        self, name: str, text: str = "", /, *, labels: Sequence[str] = ()
    ) -> _All:
        """Return a gauge in each of them."""
        return _All(p.gauge(name, text, labels=labels) for p in self._providers)

    def histogram(
        self,
        name: str,
        text: str = "",
        /,
        *,
        labels: Sequence[str] = (),
        bounds: Sequence[float] = BOUNDS_SECONDS,
    ) -> _All:
        """Return a histogram in each of them."""
        return _All(
            p.histogram(name, text, labels=labels, bounds=bounds)
            for p in self._providers
        )
