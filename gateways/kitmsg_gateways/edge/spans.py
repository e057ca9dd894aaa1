"""Server spans of a door: one for each request, from its headers to its answer.

Made at wiring; None where nothing is traced, and then headers of traces pass as they came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kitmsg.errors import Code, KitError
from kitmsg.tracing import tracer
from kitmsg.tracing.ids import sampled_ids
from kitmsg.wire import B3, BAGGAGE, ERROR, TRACE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kitmsg.tracing.seam import Attributes, Operation, Span

__all__ = ["OUTSIDE", "TRACES", "carrier", "door", "exemplary", "finish", "passing"]

TRACES: Final = (*TRACE, *B3)
"""The headers of traces, which doors pass on."""

OUTSIDE: Final = tuple(name for name in TRACES if name != BAGGAGE)
"""Those that outsiders may choose at a public edge."""


def passing(is_outside: bool) -> tuple[str, ...]:
    """Return the headers of traces that pass as they came; none where calls are traced.

    Args:
        is_outside: Whether outsiders call at a public edge.
    """
    if tracer() is not None:
        return ()
    return OUTSIDE if is_outside else TRACES


def door(name: str, attributes: Attributes) -> Operation | None:
    """Return what begins the spans of a door's requests; None where nothing is traced."""
    found = tracer()
    return None if found is None else found.server(name, attributes)


def finish(span: Span, error: BaseException | None) -> None:
    """End the span of a request.

    Args:
        span: Of the request.
        error: What it was answered with; None for a success.
    """
    if error is None:
        span.finish()
    elif isinstance(error, KitError):
        reply = error.reply
        is_business = reply is not None and ERROR in reply.headers
        span.finish(error.code, str(error), is_business=is_business)
    elif isinstance(error, Exception):
        span.finish(Code.INTERNAL, type(error).__name__)
    else:
        span.finish(Code.CANCELLED)


def exemplary(
    span: Span | None, sent: Mapping[str, Sequence[str] | str]
) -> tuple[str, str] | None:
    """Return trace and span id that a request's duration is an exemplar with, if any.

    Args:
        span: Of the request; None where nothing is traced.
        sent: The headers that came, by name in lower case; they count without a span.
    """
    return sampled_ids(sent if span is None else span.headers())


def carrier(given: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return the headers of traces among those that came, by names in lower case."""
    return {name: list(given[name]) for name in TRACES if name in given}
