"""Power of two choices: of two nodes at random, the one where a call waits less.

M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing"; the cost is
Finagle's peak EWMA times the open calls.  A node that had no call for a while gets the
next one that has it among its two: its latency may be a thing of the past (go-zero).

Hot path: `pick` runs for every call and is flat on purpose.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from typing import Any, Final

from kitmsg.balance.node import Node
from kitmsg.balance.picker import Leaf, Nodes, untried

__all__ = ["IDLE_SECONDS", "P2c", "p2c"]

IDLE_SECONDS: Final = 3.0
"""Time without a call after which what is known of a node is old."""

_PAIR: Final = 2


class P2c(Leaf):
    """Picks by `Node.cost`; see `p2c`."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance

    def pick(
        self, nodes: Nodes, now: float, key: str, tried: Collection[Node[Any]], /
    ) -> Node[Any] | None:
        """Return the less loaded of two nodes."""
        left = untried(nodes, tried) if tried else nodes
        count = len(left)
        if count < _PAIR:
            return left[0] if left else None
        first = int(self._chance() * count)
        second = int(self._chance() * (count - 1))
        if second >= first:
            second += 1
        one, other = left[first], left[second]
        if other.cost(now) < one.cost(now):
            one, other = other, one
        if other.started + IDLE_SECONDS < now and not other.in_flight:
            return other
        return one


def p2c(*, chance: Callable[[], float] = random.random) -> P2c:
    """Return the picker by latency and open calls: the usual one.

    Args:
        chance: Returns a number from 0 to 1, all equally likely; for tests.
    """
    return P2c(chance)
