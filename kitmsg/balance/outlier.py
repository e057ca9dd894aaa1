"""Outlier ejection: instances that fail more than the others get no calls for a while.

Envoy's detection and its constants: failures in a row, and a success rate far below the
mean of all.  At most half of a set is out at a time: when most fail, it is not them.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from statistics import fmean, pstdev
from typing import Any, Final

from kitmsg.balance.node import Node
from kitmsg.balance.picker import Narrowed, Nodes, Picker, PickerAround

__all__ = ["OutlierEjection", "outlier_ejection"]

_log = logging.getLogger("kitmsg.balance")

_INTERVAL: Final = 10.0  # seconds over which a success rate is taken
_LEAST_NODES: Final = 5  # with fewer, the one that fails is the deviation itself
_DEVIATIONS: Final = 1.9  # below the mean
_MOST_TIMES: Final = 10  # that the time out grows


class _Counts:
    """Outcomes of one node."""

    __slots__ = ("calls", "failures", "in_a_row", "times")

    def __init__(self) -> None:
        self.calls = 0
        self.failures = 0
        self.in_a_row = 0
        self.times = 0  # it was ejected; grows the time out


class OutlierEjection(PickerAround):
    """Picks past nodes that fail; see `outlier_ejection`."""

    def __init__(
        self, inner: Picker, consecutive: int, least_calls: int, seconds: float
    ) -> None:
        super().__init__(inner)
        self._consecutive = consecutive
        self._least_calls = least_calls
        self._seconds = seconds
        self._counts: dict[Node[Any], _Counts] = {}
        self._until: dict[Node[Any], float] = {}  # those that are out
        self._next = float("inf")  # when the first of them is back
        self._round: float | None = None  # when the interval began
        self._set: Nodes = ()  # the last one picked from
        # Sets without those that are out; made anew when somebody goes out or returns.
        self._left = Narrowed(self._without)

    def pick(
        self, nodes: Nodes, now: float, key: str, tried: Collection[Node[Any]], /
    ) -> Node[Any] | None:
        """Return a node that is not out; any when no other is left."""
        self._set = nodes
        if now >= self._next:
            self._return(now)
        if not self._until:
            return self.inner.pick(nodes, now, key, tried)
        left = self._left.of(nodes)
        return self.inner.pick(left, now, key, tried) or self.inner.pick(
            nodes, now, key, tried
        )

    def done(self, node: Node[Any], now: float, failed: bool, /) -> None:
        """Count an outcome; eject the node that failed once too often."""
        self.inner.done(node, now, failed)
        counts = self._counts.get(node)
        if counts is None:
            counts = self._counts[node] = _Counts()
        counts.calls += 1
        if failed:
            counts.failures += 1
            counts.in_a_row += 1
            if counts.in_a_row >= self._consecutive:
                self._eject(node, now, f"{counts.in_a_row} failures in a row")
        else:
            counts.in_a_row = 0
        if self._round is None:
            self._round = now
        elif now - self._round >= _INTERVAL:
            self._round = now
            self._compare(now)

    def _without(self, nodes: Nodes) -> Nodes:
        return tuple(node for node in nodes if node not in self._until)

    def _return(self, now: float) -> None:
        self._until = {node: end for node, end in self._until.items() if end > now}
        self._next = min(self._until.values(), default=float("inf"))
        self._left = Narrowed(self._without)

    def _compare(self, now: float) -> None:
        """Eject those whose success rate is far below the mean; begin another interval."""
        rates = {
            node: 1.0 - counts.failures / counts.calls
            for node, counts in self._counts.items()
            if counts.calls >= self._least_calls
        }
        if len(rates) >= _LEAST_NODES:
            values = list(rates.values())
            bound = fmean(values) - _DEVIATIONS * pstdev(values)
            for node, rate in rates.items():
                if rate < bound:
                    self._eject(node, now, f"{rate:.0%} of its calls succeed")
        for node, counts in list(self._counts.items()):
            if node not in self._until:
                if not counts.calls:  # it left, or nobody calls
                    del self._counts[node]
                if not counts.failures:
                    counts.times = max(0, counts.times - 1)
            counts.calls = counts.failures = 0

    def _eject(self, node: Node[Any], now: float, why: str) -> None:
        out = sum(each in self._until for each in self._set) + 1
        if node in self._until or node not in self._set or 2 * out > len(self._set):
            return
        counts = self._counts[node]
        counts.in_a_row = 0
        counts.times = min(counts.times + 1, _MOST_TIMES)
        end = now + self._seconds * counts.times
        self._until[node] = end
        self._next = min(self._next, end)
        self._left = Narrowed(self._without)
        _log.warning("%s is out for %g s: %s", node.address, end - now, why)


def outlier_ejection(
    inner: Picker,
    *,
    consecutive: int = 5,
    least_calls: int = 100,
    seconds: float = 30.0,
) -> OutlierEjection:
    """Return a picker that passes over nodes which fail, for a while.

    A node that is back and fails again is out for twice, three times ... as long.

    Args:
        inner: Picks among the others.
        consecutive: Failures in a row after which a node is out; at least 1.
        least_calls: Calls in 10 s from which on a node's success rate counts; at least 1.
        seconds: Time out, the first time; more than zero.

    Raises:
        ValueError: An argument is too small.
    """
    if consecutive < 1 or least_calls < 1 or not seconds > 0:
        raise ValueError(
            "consecutive and least_calls must be at least 1, seconds positive, not"
            f" {consecutive!r}, {least_calls!r}, {seconds!r}"
        )
    return OutlierEjection(inner, consecutive, least_calls, seconds)
