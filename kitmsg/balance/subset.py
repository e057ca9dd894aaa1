"""Deterministic subset: each client uses a few of many instances, always the same ones.

Rendezvous hashing (Thaler, Ravishankar 1998): clients need no number of their own, and an
instance that comes or goes changes one place of the subsets that it is in.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection
from typing import Any, Final

from kitmsg.balance.node import Node
from kitmsg.balance.picker import Narrowed, Nodes, Picker, PickerAround

__all__ = ["Subset", "subset"]

_PROCESS: Final = secrets.token_hex(8)


class Subset(PickerAround):
    """Picks out of a subset; see `subset`."""

    def __init__(self, size: int, inner: Picker, client: str) -> None:
        super().__init__(inner)
        self._size = size
        self._client = client
        self._few = Narrowed(self._subset)

    def pick(
        self, nodes: Nodes, now: float, key: str, tried: Collection[Node[Any]], /
    ) -> Node[Any] | None:
        """Return a node of the subset; one outside when those are all tried."""
        few = self._few.of(nodes)
        return self.inner.pick(few, now, key, tried) or self.inner.pick(
            nodes, now, key, tried
        )

    def _subset(self, nodes: Nodes) -> Nodes:
        if len(nodes) <= self._size:
            return nodes
        chosen = set(sorted(nodes, key=self._rank)[: self._size])
        return tuple(node for node in nodes if node in chosen)

    def _rank(self, node: Node[Any]) -> bytes:
        return hashlib.blake2b(f"{self._client} {node.address}".encode()).digest()


def subset(size: int, inner: Picker, *, client: str = _PROCESS) -> Subset:
    """Return a picker that uses `size` of the nodes.

    Args:
        size: Nodes to use; at least 1.
        inner: Picks among them.
        client: Name of this client; by default one of this process, at random.

    Raises:
        ValueError: `size` is less than 1.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, not {size!r}")
    return Subset(size, inner, client)
