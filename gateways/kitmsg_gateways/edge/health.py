"""Is the gateway well: does it reach the bus, does it know who is there, does it stop?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from kitmsg.bus import Bus

__all__ = ["Health"]


class _Known(Protocol):
    """Looks for services."""

    @property
    def is_ready(self) -> bool:
        """Whether everybody could be asked at least once."""
        ...


class Health:
    """The readiness of a gateway.

    Args:
        bus: That it must reach.
        known: That must have looked around once.

    Attributes:
        is_draining: Whether the gateway stops.
    """

    def __init__(self, bus: Bus, known: _Known) -> None:
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
