"""OpenTelemetry's SDK for the spans that users' code begins, beside kitmsg's own.

They go to the same addresses; and, in a call that gathers its spans, into its bag.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.context import get_value
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider, sampling
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from kitmsg.tracing.exporters import exporter_of
from kitmsg.tracing.gathered import BAG, Bag, Gathered

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, Span
    from opentelemetry.sdk.trace.export import SpanExporter

__all__ = ["provider_of"]


def provider_of(
    addresses: Sequence[str],
    resource: Resource,
    *,
    exporter: SpanExporter | None = None,
    gathers: bool = False,
) -> TracerProvider:
    """Return a provider, set globally.

    Args:
        addresses: Where its spans go.
        resource: Attributes of this process.
        exporter: Another one, beside the addresses.
        gathers: Whether spans are recorded for callers that ask for them.
    """
    options: dict[str, Any] = {}
    if gathers:
        is_on = bool(addresses or exporter)
        options["sampler"] = _Gathered(is_on)
    provider = TracerProvider(resource=resource, **options)
    exporters = [exporter_of(each) for each in addresses]
    for each in (*exporters, *((exporter,) if exporter else ())):
        provider.add_span_processor(BatchSpanProcessor(each))
    if gathers:
        provider.add_span_processor(_Gathering())
    trace.set_tracer_provider(provider)
    return provider


class _Gathered(sampling.Sampler):
    """Records what is below a call that gathers, and leaves the rest to the environment."""

    def __init__(self, is_on: bool) -> None:
        off = sampling.ParentBased(sampling.ALWAYS_OFF)
        self._inner = TracerProvider().sampler if is_on else off

    def should_sample(
        self, parent_context: Context | None, *args: Any, **options: Any
    ) -> sampling.SamplingResult:
        """Return whether to record a span."""
        found = self._inner.should_sample(parent_context, *args, **options)
        is_asked = get_value(BAG, parent_context) is not None
        if is_asked and found.decision is sampling.Decision.DROP:
            return sampling.SamplingResult(
                sampling.Decision.RECORD_ONLY, trace_state=found.trace_state
            )
        return found

    def get_description(self) -> str:
        """Return its name."""
        return f"Gathered{{{self._inner.get_description()}}}"


class _Gathering(SpanProcessor):
    """Puts spans into the bag of the call that they belong to."""

    def __init__(self) -> None:
        # Of spans that go on, by their ids.
        self._bags: dict[int, Bag] = {}

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Note the call of a span."""
        bag = get_value(BAG, parent_context)
        context = span.get_span_context()
        if isinstance(bag, Bag) and context is not None:
            self._bags[context.span_id] = bag

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span."""
        context = span.context
        bag = None if context is None else self._bags.pop(context.span_id, None)
        if bag is None or context is None:
            return
        bag.take(
            Gathered(
                id=f"{context.span_id:016x}",
                parent=f"{span.parent.span_id:016x}" if span.parent else "",
                name=span.name,
                kind=span.kind.name.lower(),
                start=span.start_time or 0,
                stop=span.end_time or 0,
                process=bag.process,
                failure=None if span.status.is_ok else span.status.description or "",
            )
        )
