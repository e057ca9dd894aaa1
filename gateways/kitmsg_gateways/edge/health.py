"""Is the gateway well: does it reach the bus, does it know who is there, does it stop?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kitmsg.worker.pages import Pages

if TYPE_CHECKING:
    from kitmsg.bus import Bus
    from kitmsg.metrics.families import Family
    from kitmsg_gateways.edge.catalogue import Catalogue
    from kitmsg_gateways.edge.metrics import Metrics

__all__ = ["Health", "MetricsPage"]


class Health:
    """The readiness of a gateway.

    Args:
        bus: That it must reach.
        known: That must have looked around once.

    Attributes:
        is_draining: Whether the gateway stops.
    """

    def __init__(self, bus: Bus, known: Catalogue[Any]) -> None:
        self.is_draining = False
        self._bus = bus
        self._known = known

    def problem(self) -> str:
        """Return why nobody should be sent here; "" if the gateway is ready."""
        if self.is_draining:
            return "the gateway is stopping"
        if not self._bus.is_connected:
            return "not connected to the bus"
        if not self._known.is_ready:
            return "still looking for the services on the bus"
        return ""


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

    async def collect(self) -> tuple[list[Family], str]:
        """Return the counters."""
        return self._metrics.page(), ""
