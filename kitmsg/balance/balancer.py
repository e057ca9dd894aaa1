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
    """

    def __init__(self, endpointer: Endpointer[T], picker: Picker) -> None:
        self.endpointer = endpointer
        self.picker = picker
        # Pickers that look at no outcome are not told any.
        self.tells = getattr(type(picker), "done", None) is not Leaf.done
        self._tiers = Narrowed(_by_priority)
        self._avoided: dict[Node[Any], tuple[float, float]] = {}  # until, and how long
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
        if self._avoided:
            found = self._pick_reachable(nodes, now, key, tried)
            if found is not None:
                return found
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
            ends = (end for end, _ in self._avoided.values() if end > now)
            self._next = min(ends, default=float("inf"))
        for tier in self._tiers.of(self._left.of(nodes)):
            node = self.picker.pick(tier, now, key, tried)
            if node is not None:
                return cast("Node[T]", node)
        return None

    def _reachable(self, nodes: Nodes) -> Nodes:
        return tuple(
            node for node in nodes if self._avoided.get(node, (0.0,))[0] <= self._now
        )

    @property
    def avoids(self) -> bool:
        """Whether any node is avoided."""
        return bool(self._avoided)

    def unreachable(self, node: Node[Any], now: float) -> None:
        """Avoid a node for a moment: a call could not be sent to it."""
        _, seconds = self._avoided.get(node, (0.0, AVOID_SECONDS / 2))
        seconds = min(2 * seconds, _MOST_SECONDS)
        here = set(self.endpointer.nodes)
        self._avoided = {n: until for n, until in self._avoided.items() if n in here}
        self._avoided[node] = now + seconds, seconds
        self._next = self._now = now  # look again

    def reached(self, node: Node[Any]) -> None:
        """Avoid a node no more: it took a call."""
        if self._avoided.pop(node, None) is not None:
            self._left = Narrowed(self._reachable)


def _by_priority(nodes: Nodes) -> tuple[Nodes, ...]:
    priorities = sorted({node.instance.priority for node in nodes})
    if len(priorities) < 2:  # noqa: PLR2004
        return (nodes,)
    return tuple(
        tuple(node for node in nodes if node.instance.priority == each)
        for each in priorities
    )
