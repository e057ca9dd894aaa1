"""``/metrics``, ``/healthz`` and ``/readyz`` of one gateway, on a port of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kitmsg.worker.pages import Pages

if TYPE_CHECKING:
    from kitmsg_gateways.edge.health import Health
    from kitmsg_gateways.edge.metrics import Metrics

__all__ = ["MetricsPage"]


class MetricsPage(Pages):
    """The pages of a gateway.

    Args:
        host: Address to listen on.
        port: Port; 0 for a free one.
        metrics: Shown there.
        health: Told there.
    """

    def __init__(self, host: str, port: int, metrics: Metrics, health: Health) -> None:
        super().__init__(host, port, "--metrics-port")
        self._metrics = metrics
        self._health = health

    def health(self) -> tuple[int, dict[str, Any]]:
        """Return that the process answers."""
        return 200, {"status": "ok"}

    def readiness(self) -> tuple[int, dict[str, Any]]:
        """Return whether calls should be sent here."""
        problem = self._health.problem()
        return (503 if problem else 200), {"status": problem or "ready"}

    async def metrics(self) -> str:
        """Return the counters."""
        return self._metrics.exposition(is_page=True)
