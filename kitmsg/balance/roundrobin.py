"""Round robin: the nodes in turn."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from kitmsg.balance.node import Node
from kitmsg.balance.picker import Leaf, Nodes, untried

__all__ = ["RoundRobin", "round_robin"]


class RoundRobin(Leaf):
    """Picks the nodes in turn."""

    def __init__(self) -> None:
        self._count = 0

    def pick(
        self, nodes: Nodes, now: float, key: str, tried: Collection[Node[Any]], /
    ) -> Node[Any] | None:
        """Return the next node."""
        left = untried(nodes, tried)
        if not left:
            return None
        self._count += 1
        return left[self._count % len(left)]


def round_robin() -> RoundRobin:
    """Return the picker that takes the nodes in turn, whatever their load."""
    return RoundRobin()
