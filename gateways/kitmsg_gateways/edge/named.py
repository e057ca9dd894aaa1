"""Spans of calls that are known by name alone, as those of tools are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kitmsg.tracing import tracer

if TYPE_CHECKING:
    from kitmsg.tracing.seam import Operation, Span
    from kitmsg_gateways.edge.visit import Visit

__all__ = ["Spans"]

_MOST: Final = 4096


class Spans:
    """Spans of calls that are known by name alone, as of tools (OpenTelemetry's for MCP).

    Args:
        method: The protocol's method; begins the name of each span.
        method_key: Name of the attribute that has it.
        called_key: Name of the attribute that has the name of what is called.
    """

    def __init__(self, method: str, method_key: str, called_key: str) -> None:
        self._tracer = tracer()
        self._method = method
        self._keys = method_key, called_key
        self._operations: dict[str, Operation] = {}

    def begin(self, called: str, visit: Visit, own: object) -> Span | None:
        """Begin the span of a call, and enter it; None where nothing is traced.

        Args:
            called: A name of the catalogue.
            visit: The request that the call came with.
            own: What the call itself says, by name; None for nothing.
        """
        if self._tracer is None:
            return None
        found = self._operations.get(called)
        if found is None:
            if len(self._operations) >= _MOST:  # names that came and went
                self._operations.clear()
            named = dict(zip(self._keys, (self._method, called), strict=True))
            found = self._tracer.server(f"{self._method} {called}", named)
            self._operations[called] = found
        said = own if isinstance(own, dict) else {}
        return found.accept(visit.carrier(said), is_public=visit.is_outside)
