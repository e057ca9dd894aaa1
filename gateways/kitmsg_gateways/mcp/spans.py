"""Spans of the calls of tools.

OpenTelemetry's "Semantic conventions for Model Context Protocol (MCP)": ``tools/call`` and
the tool's name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kitmsg.tracing import tracer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kitmsg.tracing.seam import Operation, Span

__all__ = ["ToolSpans"]

_METHOD: Final = "tools/call"
_MOST: Final = 4096


class ToolSpans:
    """Begins the spans of tools.

    Attributes:
        is_on: Whether calls are traced.
    """

    def __init__(self) -> None:
        self._tracer = tracer()
        self.is_on = self._tracer is not None
        self._operations: dict[str, Operation] = {}

    def begin(
        self, tool: str, given: Mapping[str, Sequence[str]], *, is_public: bool
    ) -> Span | None:
        """Begin the span of a call, and enter it; None where nothing is traced.

        Args:
            tool: Of the catalogue.
            given: Headers of the trace that it is part of.
            is_public: Whether an outsider calls at a public edge.
        """
        if self._tracer is None:
            return None
        found = self._operations.get(tool)
        if found is None:
            if len(self._operations) >= _MOST:  # tools that came and went
                self._operations.clear()
            named = {"mcp.method.name": _METHOD, "gen_ai.tool.name": tool}
            found = self._tracer.server(f"{_METHOD} {tool}", named)
            self._operations[tool] = found
        return found.accept(given, is_public=is_public)
