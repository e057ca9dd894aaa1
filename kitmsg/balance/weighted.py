"""Smooth weighted round robin: shares by weight, no bursts (nginx's algorithm)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from kitmsg.balance.node import Node
from kitmsg.balance.picker import Leaf, Nodes, untried

__all__ = ["Weighted", "weighted"]

_LEAST: Final = 0.01  # a weight of 0 gets the least that is something (RFC 2782)
_MOST: Final = 4_096  # addresses that are remembered, those that left too


class Weighted(Leaf):
    """Picks nodes in proportion to their weights."""

    def __init__(self) -> None:
        # By address: what a node is owed; the sum over a set stays 0.
        self._owed: dict[str, float] = {}

    def pick(
        self, nodes: Nodes, now: float, key: str, tried: Collection[Node[Any]], /
    ) -> Node[Any] | None:
        """Return the node that is owed the most."""
        if len(self._owed) > _MOST:
            self._owed.clear()
        owed, total = self._owed, 0.0
        best: Node[Any] | None = None
        most = float("-inf")
        for node in untried(nodes, tried):
            weight = max(node.instance.weight, _LEAST)
            total += weight
            mine = owed[node.address] = owed.get(node.address, 0.0) + weight
            if mine > most:
                best, most = node, mine
        if best is not None:
            owed[best.address] -= total
        return best


def weighted() -> Weighted:
    """Return the picker that gives each node the share that its weight says."""
    return Weighted()
