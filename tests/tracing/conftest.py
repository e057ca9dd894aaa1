"""Spans of the process, read back: from kitmsg's pipeline, and from an SDK of the program's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.util._once import Once

from kitmsg import tracing
from kitmsg.tracing.setup import set_up

if TYPE_CHECKING:
    from collections.abc import Iterator


class Spans:
    """What was exported."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()

    def all(self) -> list[Any]:
        """Return the spans that have ended, the first begun first."""
        assert tracing.flush()
        return sorted(
            self.exporter.get_finished_spans(), key=lambda s: s.start_time or 0
        )

    def clear(self) -> None:
        """Forget what has ended so far."""
        assert tracing.flush()
        self.exporter.clear()

    def named(self, name: str, kind: str = "") -> list[Any]:
        """Return the spans of a name, and of a kind."""
        kinds = {kind.upper()} if kind else set(trace.SpanKind.__members__)
        return [s for s in self.all() if s.name == name and s.kind.name in kinds]

    def one(self, name: str, kind: str = "") -> Any:
        """Return the only span of a name."""
        (found,) = self.named(name, kind)
        return found

    def tree(self) -> list[str]:
        """Return a line for each span, indented below its parent."""
        spans, lines = self.all(), []
        ids = {span.context.span_id for span in spans if span.context}

        def add(parent: int | None, depth: int) -> None:
            for span in spans:
                above = span.parent.span_id if span.parent else None
                above = above if above in ids else None
                if above == parent and span.context is not None:
                    lines.append(f"{'  ' * depth}{span.kind.name.lower()} {span.name}")
                    add(span.context.span_id, depth + 1)

        add(None, 0)
        return lines


def forget_provider() -> None:
    """Let the next one be set globally, as in a new process."""
    trace._TRACER_PROVIDER = None
    trace._TRACER_PROVIDER_SET_ONCE = Once()


@pytest.fixture
def own_process() -> Iterator[None]:
    """Nothing is traced, as in a new process; nor afterwards."""
    tracing.use(None)
    forget_provider()
    yield
    tracing.use(None)
    forget_provider()


@pytest.fixture
def recorded(own_process: None) -> Spans:
    """Spans of kitmsg's own pipeline."""
    spans = Spans()
    set_up(service="tests", exporter=spans.exporter)
    return spans


@pytest.fixture(params=["pipeline", "sdk"])
def spans(request: pytest.FixtureRequest, own_process: None) -> Spans:
    """Spans of kitmsg's own pipeline, and of an SDK that the program has set up."""
    spans = Spans()
    if request.param == "pipeline":
        set_up(service="tests", exporter=spans.exporter)
    else:
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(spans.exporter))
        trace.set_tracer_provider(provider)
    return spans
