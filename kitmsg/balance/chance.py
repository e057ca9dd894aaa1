"""Random: any node, all equally likely."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from typing import Any

from kitmsg.balance.node import Node
from kitmsg.balance.picker import Leaf, Nodes, untried

__all__ = ["AtRandom", "at_random"]


class AtRandom(Leaf):
    """Picks any node."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance

    def pick(
        self, nodes: Nodes, now: float, key: str, tried: Collection[Node[Any]], /
    ) -> Node[Any] | None:
        """Return any node."""
        left = untried(nodes, tried)
        return left[int(self._chance() * len(left))] if left else None


def at_random(*, chance: Callable[[], float] = random.random) -> AtRandom:
    """Return the picker that takes any node, all equally likely.

    Args:
        chance: Returns a number from 0 to 1, all equally likely; for tests.
    """
    return AtRandom(chance)
