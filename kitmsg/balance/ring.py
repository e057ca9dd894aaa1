"""Consistent hash with bounded load: the same node for the same key, unless it is full.

Karger et al. 1997 for the ring; Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with
Bounded Loads", for the bound: nobody has more than `bound` times the mean of open calls,
a full node's calls go on to the next one on the ring.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Collection, Iterator
from typing import Any, Final

from kitmsg.balance.node import Node
from kitmsg.balance.picker import Leaf, Narrowed, Nodes

__all__ = ["ConsistentHash", "consistent_hash"]

_POINTS: Final = 100  # of a node on the ring: shares differ by a tenth or so


class ConsistentHash(Leaf):
    """Picks by the request's key; see `consistent_hash`."""

    def __init__(self, bound: float) -> None:
        self._bound = bound
        self._rings = Narrowed(_Ring)

    def pick(
        self, nodes: Nodes, now: float, key: str, tried: Collection[Node[Any]], /
    ) -> Node[Any] | None:
        """Return the first node from the key's point on that is not full."""
        if not nodes:
            return None
        calls = sum(node.in_flight for node in nodes) + 1
        share = self._bound * calls / len(nodes)
        most = math.ceil(share) if math.isfinite(share) else share
        full: Node[Any] | None = None
        for node in self._rings.of(nodes).after(key):
            if node in tried:
                continue
            if node.in_flight < most:
                return node
            full = full or node
        return full


class _Ring:
    """The nodes of a set on a circle, each at many points."""

    def __init__(self, nodes: Nodes) -> None:
        points = sorted(
            (_hash(f"{node.address}#{number}"), node.address, node)
            for node in nodes
            for number in range(_POINTS)
        )
        self._hashes = [point for point, _, _ in points]
        self._nodes = [node for _, _, node in points]
        self._count = len(nodes)

    def after(self, key: str) -> Iterator[Node[Any]]:
        """Yield each node once, in the order of the circle from the key's point on."""
        at = bisect_right(self._hashes, _hash(key))
        seen: set[int] = set()
        for step in range(len(self._nodes)):
            node = self._nodes[(at + step) % len(self._nodes)]
            if id(node) not in seen:
                yield node
                seen.add(id(node))
                if len(seen) == self._count:
                    return


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "big")


def consistent_hash(*, bound: float = 1.25) -> ConsistentHash:
    """Return the picker by key: all processes pick the same node for the same key.

    A node that comes or goes moves its own share of the keys and no others.

    Args:
        bound: Times the mean of open calls that a node may have; more than 1.  Infinite
            for the same node whatever its load.

    Raises:
        ValueError: `bound` is not more than 1.
    """
    if not bound > 1:
        raise ValueError(f"bound must be more than 1, not {bound!r}")
    return ConsistentHash(bound)
