"""A balancer: the picker's choice among the nodes that can be reached."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, Generic, TypeVar, cast

from kitmsg.balance.endpointer import Endpointer
from kitmsg.balance.node import Node
from kitmsg.balance.picker import Leaf, Narrowed, Nodes, Picker

__all__ = ["AVOID_SECONDS", "Balancer"]

T = TypeVar("T")

AVOID_SECONDS: Final = 1.0
"""How long an instance is avoided after it could not be reached, the first time."""

_MOST_SECONDS: Final = 10.0  # what that grows to while it cannot


class Balancer(Generic[T]):
    """Picks a node of an endpointer for a call.

    Those that could not be reached a moment ago come last, and those of a higher number of
    priority after all of a lower one (RFC 2782).

    Args:
        endpointer: Has the nodes.
        picker: Picks among them.

    Attributes:
        tells: Whether the picker wants to know outcomes.
        avoided: Nodes that could not be reached: until when, and for how long.
    """

    def __init__(self, endpointer: Endpointer[T], picker: Picker) -> None:
        self.endpointer = endpointer
        self.picker = picker
        # Pickers that look at no outcome are not told any.
        self.tells = getattr(type(picker), "done", None) is not Leaf.done
        self._tiers = Narrowed(_by_priority)
        self._seen: Nodes | None = None  # the last set, for `_is_flat`
        self._is_flat = True  # it has one priority
        self.avoided: dict[Node[Any], tuple[float, float]] = {}
        self._left = Narrowed(self._reachable)
        self._now = 0.0  # time that `_left` is of
        self._next = 0.0  # when the first that is avoided may be tried again

    def pick(
        self, now: float, key: str = "", tried: Collection[Node[Any]] = ()
    ) -> Node[T] | None:
        """Return a node that is not in `tried`; None when there is none.

        Args:
            now: Time on the loop's clock.
            key: Of the request, for pickers that care.
            tried: Nodes that other attempts of the call have had.
        """
        nodes = self.endpointer.nodes
        if self.avoided:
            found = self._pick_reachable(nodes, now, key, tried)
            if found is not None:
                return found
        if nodes is not self._seen:
            self._seen = nodes
            self._is_flat = len(self._tiers.of(nodes)) == 1
        if self._is_flat:
            return self.picker.pick(nodes, now, key, tried)
        for tier in self._tiers.of(nodes):
            node = self.picker.pick(tier, now, key, tried)
            if node is not None:
                return cast("Node[T]", node)
        return None

    def _pick_reachable(
        self, nodes: Nodes, now: float, key: str, tried: Collection[Node[Any]]
    ) -> Node[T] | None:
        if now >= self._next:
            self._now, self._left = now, Narrowed(self._reachable)
            ends = (end for end, _ in self.avoided.values() if end > now)
            self._next = min(ends, default=float("inf"))
        for tier in self._tiers.of(self._left.of(nodes)):
            node = self.picker.pick(tier, now, key, tried)
            if node is not None:
                return cast("Node[T]", node)
        return None

    def _reachable(self, nodes: Nodes) -> Nodes:
        return tuple(
            node for node in nodes if self.avoided.get(node, (0.0,))[0] <= self._now
        )

    def unreachable(self, node: Node[Any], now: float) -> None:
        """Avoid a node for a moment: a call could not be sent to it."""
        _, seconds = self.avoided.get(node, (0.0, AVOID_SECONDS / 2))
        seconds = min(2 * seconds, _MOST_SECONDS)
        here = set(self.endpointer.nodes)
        self.avoided = {n: until for n, until in self.avoided.items() if n in here}
        self.avoided[node] = now + seconds, seconds
        self._next = self._now = now  # look again

    def reached(self, node: Node[Any]) -> None:
        """Avoid a node no more: it took a call."""
        if self.avoided.pop(node, None) is not None:
            self._left = Narrowed(self._reachable)


def _by_priority(nodes: Nodes) -> tuple[Nodes, ...]:
    priorities = sorted({node.instance.priority for node in nodes})
    if len(priorities) < 2:  # noqa: PLR2004
        return (nodes,)
    return tuple(
        tuple(node for node in nodes if node.instance.priority == each)
        for each in priorities
    )
