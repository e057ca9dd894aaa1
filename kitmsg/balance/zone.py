"""Zone first: instances of our own zone, others when those are gone or full."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from kitmsg.balance.node import Node
from kitmsg.balance.picker import Narrowed, Nodes, Picker, PickerAround

__all__ = ["ZoneFirst", "zone_first"]


class ZoneFirst(PickerAround):
    """Picks in one zone first; see `zone_first`."""

    def __init__(self, zone: str, inner: Picker, overflow: int) -> None:
        super().__init__(inner)
        self._zone = zone
        self._overflow = overflow
        self._parts = Narrowed(self._split)

    def pick(
        self, nodes: Nodes, now: float, key: str, tried: Collection[Node[Any]], /
    ) -> Node[Any] | None:
        """Return a node of the zone, or the less busy one elsewhere."""
        here, there = self._parts.of(nodes)
        near = self.inner.pick(here, now, key, tried)
        if near is not None and near.in_flight < self._overflow:
            return near
        far = self.inner.pick(there, now, key, tried)
        if near is None or (far is not None and far.in_flight < near.in_flight):
            return far
        return near

    def _split(self, nodes: Nodes) -> tuple[Nodes, Nodes]:
        here = tuple(node for node in nodes if node.instance.zone == self._zone)
        there = tuple(node for node in nodes if node.instance.zone != self._zone)
        return here, there


def zone_first(zone: str, inner: Picker, *, overflow: int = 16) -> ZoneFirst:
    """Return a picker that prefers the nodes of `zone`.

    Args:
        zone: Ours, as `Instance.zone` has it.
        inner: Picks in the zone, and elsewhere.
        overflow: Open calls of the node picked in the zone from which on a less busy one
            elsewhere gets the call; at least 1.

    Raises:
        ValueError: `overflow` is less than 1, or `zone` is empty.
    """
    if overflow < 1:
        raise ValueError(f"overflow must be at least 1, not {overflow!r}")
    if not zone:
        raise ValueError("zone is empty; give the name of the zone that this runs in")
    return ZoneFirst(zone, inner, overflow)
