"""Round robin: the nodes in turn."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from kitmsg.balance.node import Node
from kitmsg.balance.picker import Leaf, Nodes

__all__ = ["RoundRobin", "round_robin"]


class RoundRobin(Leaf):
    """Picks the nodes in turn."""

    def __init__(self) -> None:
        self._next = 0  # place of the node that is next

    def pick(
        self, nodes: Nodes, now: float, key: str, tried: Collection[Node[Any]], /
    ) -> Node[Any] | None:
        """Return the next node; those that were tried are passed over, in their turn."""
        size = len(nodes)
        for step in range(size):
            place = (self._next + step) % size
            if nodes[place] not in tried:
                self._next = place + 1
                return nodes[place]
        return None


def round_robin() -> RoundRobin:
    """Return the picker that takes the nodes in turn, whatever their load."""
    return RoundRobin()
