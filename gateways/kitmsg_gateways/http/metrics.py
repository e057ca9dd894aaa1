"""What the HTTP gateway counts beside calls and connections: JSON-RPC and streams."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from kitmsg.metrics.families import counter
from kitmsg_gateways.edge.metrics import Metrics as EdgeMetrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kitmsg.metrics.families import Family
    from kitmsg_gateways.http.streams.live import Live

__all__ = ["Metrics"]


class Metrics(EdgeMetrics):
    """The gateway's counters.

    Attributes:
        streams: Counts streams; None for those of nobody.
    """

    def __init__(self) -> None:
        super().__init__("http")
        self.streams: Live | None = None
        self._rpc: Counter[int] = Counter()
        self.registry.register(self._rpc_calls)

    def count_rpc(self, number: int) -> None:
        """Count one JSON-RPC call, with the code of its error or 0."""
        self._rpc[number] += 1

    def rpc_count(self, number: int) -> int:
        """Return how many JSON-RPC calls ended with this code."""
        return self._rpc[number]

    def _rpc_calls(self) -> Iterator[Family]:
        calls = counter("kitmsg_gateway_rpc_calls_total", "JSON-RPC calls, by code.")
        for number, count in sorted(self._rpc.items()):
            calls.add(count, gateway="http", code=str(number))
        yield calls
        if self.streams is not None:
            yield from self.streams.collect()
