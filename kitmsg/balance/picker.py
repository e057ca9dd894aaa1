"""Pickers: one instance out of a set, for one call.

A picker keeps no set of its own, so one may stand around another: `zone_first`,
`slow_start`, `outlier_ejection` and `subset` narrow the set for the picker inside.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from kitmsg.balance.node import Node

__all__ = ["Leaf", "Narrowed", "Nodes", "Picker", "PickerAround", "untried"]

Nodes: TypeAlias = tuple[Node[Any], ...]
V = TypeVar("V")


class Picker(Protocol):
    """Picks a node of a set."""

    def pick(
        self, nodes: Nodes, now: float, key: str, tried: Collection[Node[Any]], /
    ) -> Node[Any] | None:
        """Return a node that is not in `tried`; None when there is none left.

        Args:
            nodes: The set; the same object for as long as it does not change.
            now: Time on the loop's clock.
            key: Of the request, for pickers that care; "" for none.
            tried: Nodes that other attempts of the call have had.
        """
        ...

    def done(self, node: Node[Any], now: float, failed: bool, /) -> None:
        """Take the outcome of a call that `node` had."""
        ...


class Leaf:
    """A picker that does not look at outcomes."""

    def done(self, node: Node[Any], now: float, failed: bool, /) -> None:
        """Take the outcome of a call; nothing follows from it."""


class PickerAround:
    """A picker around another one, which sees the outcomes too."""

    def __init__(self, inner: Picker) -> None:
        self.inner = inner

    def done(self, node: Node[Any], now: float, failed: bool, /) -> None:
        """Take the outcome of a call."""
        self.inner.done(node, now, failed)


class Narrowed(Generic[V]):
    """Keeps what was made of a set until the set changes.

    A few sets are kept, because pickers around this one may use several.
    """

    _MOST = 8

    def __init__(self, make: Callable[[Nodes], V]) -> None:
        self._make = make
        self._kept: list[tuple[Nodes, V]] = []

    def of(self, nodes: Nodes) -> V:
        """Return what is made of `nodes`."""
        for known, value in self._kept:
            if known is nodes:
                return value
        value = self._make(nodes)
        self._kept = [(nodes, value), *self._kept[: self._MOST - 1]]
        return value


def untried(
    nodes: Sequence[Node[Any]], tried: Collection[Node[Any]]
) -> Sequence[Node[Any]]:
    """Return the nodes that are not in `tried`."""
    return [node for node in nodes if node not in tried] if tried else nodes
