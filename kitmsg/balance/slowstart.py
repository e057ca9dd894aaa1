"""Slow start: an instance that joins gets its share little by little."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from typing import Any, Final

from kitmsg.balance.node import Node
from kitmsg.balance.picker import Nodes, Picker, PickerAround

__all__ = ["SlowStart", "slow_start"]

_LEAST: Final = 0.1  # of a share, at the beginning: it has to warm up by something


class SlowStart(PickerAround):
    """Spares nodes that are new; see `slow_start`."""

    def __init__(
        self, seconds: float, inner: Picker, chance: Callable[[], float]
    ) -> None:
        super().__init__(inner)
        self._seconds = seconds
        self._chance = chance

    def pick(
        self, nodes: Nodes, now: float, key: str, tried: Collection[Node[Any]], /
    ) -> Node[Any] | None:
        """Return a node; for a new one another, the more often the newer it is."""
        node = self.inner.pick(nodes, now, key, tried)
        if node is None:
            return None
        age = now - node.since
        if age >= self._seconds or self._chance() < max(_LEAST, age / self._seconds):
            return node
        return self.inner.pick(nodes, now, key, [*tried, node]) or node


def slow_start(
    seconds: float, inner: Picker, *, chance: Callable[[], float] = random.random
) -> SlowStart:
    """Return a picker that lets nodes warm up: from a tenth of their share to all of it.

    Those of the first set are not spared: nobody is there to stand in for them.

    Args:
        seconds: Time until a node has its whole share; more than zero.
        inner: Picks the node.
        chance: Returns a number from 0 to 1, all equally likely; for tests.

    Raises:
        ValueError: `seconds` is not positive.
    """
    if not seconds > 0:
        raise ValueError(f"seconds must be positive, not {seconds!r}")
    return SlowStart(seconds, inner, chance)
