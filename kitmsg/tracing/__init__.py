"""Spans on every hop, on the OpenTelemetry API: doors, client calls, turns, upstreams.

    seam.py         `Tracer`, `Operation`, `Span`: all that the hot paths know
    conventions.py  names of spans and attributes; which codes are errors
    operations.py   operations: when a span begins, and below which parent
    turns.py        spans of nearly all calls: ids and times, until somebody looks
    spans.py        spans as kitmsg records them, for the pipeline of `set_up`
    foreign.py      spans of an SDK that the program has set up itself
    ids.py          trace and span id in headers, for logs and exemplars
    propagation.py  trace and baggage in headers: W3C, B3, what ``OTEL_PROPAGATORS`` names
    sampling.py     ``OTEL_TRACES_SAMPLER``, and the ids of new traces
    active.py       OpenTelemetry's current context, in one step
    pipeline.py     a thread that hands ended spans to exporters; flush and bounds
    quiet.py        lines of exporters that are kept from the log
    exporters.py    addresses such as ``otlp://127.0.0.1:4317``, and their exporters
    otlp.py         spans as OTLP bytes: no object of protobuf for each
    sdk.py          OpenTelemetry's SDK, for spans that users' code begins
    untraced.py     turns of a service that turned tracing off
    gathered.py     spans that go back to the caller, for ``kitmsg call --trace``
    setup.py        `set_up`: the pipeline that flags or ``OTEL_...`` ask for

`tracer` is looked up at wiring, never for each call: with nothing configured it is None,
and headers pass through as they came.  So set up an SDK of your own before you make clients
and services.  Library: ``pip install 'kitmsg[otel]'``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kitmsg.tracing.seam import Tracer

__all__ = [
    "current_headers",
    "current_ids",
    "event",
    "flush",
    "tracer",
    "use",
]

_API = "opentelemetry.trace"

# Set by `use`, at the start of a process; read at wiring.
_tracer: Tracer | None = None


def use(tracer: Tracer | None) -> None:
    """Have `tracer` make the spans of what is wired from now on; None for none of ours."""
    global _tracer  # noqa: PLW0603  # one pipeline in a process
    _tracer = tracer


def tracer() -> Tracer | None:
    """Return the maker of spans; None where nothing is traced.

    It is that of `use`, else one of the SDK that the program has set globally.
    """
    if _tracer is not None or _API not in sys.modules:
        return _tracer
    from kitmsg.tracing.foreign import found_tracer

    return found_tracer()


def event(name: str, **attributes: str | int | float) -> None:
    """Add an event to the current span; nothing happens where none is recorded."""
    if _API not in sys.modules:
        return
    from opentelemetry.trace import get_current_span

    span = get_current_span()
    if span.is_recording():
        span.add_event(name, attributes)


def current_ids() -> tuple[str, str] | None:
    """Return trace id and span id of the current span, in hexadecimal; None without one."""
    if _API not in sys.modules:
        return None
    from opentelemetry.trace import format_span_id, format_trace_id, get_current_span

    context = get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return format_trace_id(context.trace_id), format_span_id(context.span_id)


def current_headers() -> dict[str, str]:
    """Return the headers that tell of the current span, and of baggage; {} for neither."""
    if tracer() is None:
        return {}
    from opentelemetry import context, trace

    span = trace.get_current_span()
    own = getattr(span, "headers", None)  # of kitmsg's own, without a detour
    if own is not None:
        return dict(own())
    from kitmsg.tracing.propagation import inject

    return inject(context.get_current())


def flush(timeout: float = 5.0) -> bool:
    """Export the spans that have ended, in `timeout` seconds; False if there is no time."""
    return True if _tracer is None else _tracer.flush(timeout)
