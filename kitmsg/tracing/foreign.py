"""Spans of an SDK that the program has set up itself: its sampler, its processors.

Its own price, too: an SDK's span takes about ten times as long as one of `set_up`.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping, Sequence
from time import time_ns
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context as otel_context, trace as api
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode

from kitmsg.errors import Code, InvalidArgument
from kitmsg.message import Message
from kitmsg.tracing import conventions, propagation

if TYPE_CHECKING:
    from kitmsg.tracing.seam import Attributes

__all__ = ["ForeignOperation", "ForeignSpan", "ForeignTracer", "found_tracer"]

_CALL: Final = otel_context.create_key("kitmsg.call")
_NONE: Final = (api.ProxyTracerProvider, api.NoOpTracerProvider)
_ERROR_STATUS: Final = 500
_CLIENT_STATUS: Final = 400


def found_tracer() -> ForeignTracer | None:
    """Return a tracer on the provider that is set globally; None without one."""
    provider = api.get_tracer_provider()
    return None if isinstance(provider, _NONE) else _tracer_of(provider)


@functools.lru_cache(maxsize=1)
def _tracer_of(provider: api.TracerProvider) -> ForeignTracer:
    return ForeignTracer(provider)


class ForeignSpan:
    """A span of an SDK; see `kitmsg.tracing.seam.Span`.

    Attributes:
        name: Of the operation.
    """

    gathers = False

    def __init__(
        self,
        span: api.Span,
        around: Context,
        name: str,
        has_status: bool,
        all_errors: bool,
    ) -> None:
        self.name = name
        self._span = span
        self._context = api.set_span_in_context(span, around)
        self._has_status = has_status
        self._all_errors = all_errors
        self._is_over = False

    @property
    def is_live(self) -> bool:
        """Whether what is written to it is kept."""
        return self._span.is_recording()

    def line(self) -> bytes:
        """Return the headers of a message."""
        fields = self.headers()
        return ("".join(f"{n}: {v}\r\n" for n, v in fields.items()) + "\r\n").encode()

    def headers(self) -> dict[str, str]:
        """Return the headers of a request."""
        return propagation.inject(self._context)

    def enter(self, *, is_call: bool = False) -> Any:
        """Make it the current span of the task."""
        if is_call:
            self._context = otel_context.set_value(_CALL, self, self._context)
        return otel_context.attach(self._context)

    def leave(self, token: Any) -> None:
        """Make the span before it the current one again."""
        otel_context.detach(token)

    def note(self, name: str, value: str | float | bool) -> None:
        """Set an attribute."""
        self._span.set_attribute(name, value)

    def rename(self, name: str) -> None:
        """Give it another name."""
        self._span.update_name(name)

    def happened(self, name: str, attributes: Attributes) -> None:
        """Add an event, now."""
        self._span.add_event(name, attributes)

    def gathered(self) -> str:
        """Return nothing: an SDK's spans go to its exporters only."""
        return ""

    def gather(self, text: str) -> None:
        """Drop spans."""

    def finish(
        self, code: Code | None = None, text: str = "", *, is_business: bool = False
    ) -> None:
        """End it; see `kitmsg.tracing.seam.Span`."""
        if self._is_over:
            return
        self._is_over = True
        if self._has_status:
            self.note(conventions.RPC_STATUS, conventions.status_name(code))
        if code is not None and conventions.is_fault(
            code, is_business=is_business, all_errors=self._all_errors
        ):
            self.note(conventions.ERROR_TYPE, code.name)
            self._span.set_status(Status(StatusCode.ERROR, text))
        self._span.end()

    def answered(self, status: int) -> None:
        """End it with an HTTP status."""
        if self._is_over:
            return
        self._is_over = True
        self.note(conventions.HTTP_STATUS, status)
        if status >= (_CLIENT_STATUS if self._all_errors else _ERROR_STATUS):
            self.note(conventions.ERROR_TYPE, str(status))
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


class ForeignOperation:
    """Spans of one kind; see `kitmsg.tracing.seam.Operation`."""

    def __init__(
        self,
        tracer: api.Tracer,
        name: str,
        kind: SpanKind,
        attributes: Attributes,
        *,
        all_errors: bool,
    ) -> None:
        self._tracer = tracer
        self.name = name
        self._kind = kind
        self._attributes: dict[str, Any] = dict(attributes)
        self._has_status = "rpc.system.name" in attributes
        self._all_errors = all_errors

    def _start(self, context: Context, **options: Any) -> ForeignSpan:
        span = self._tracer.start_span(
            self.name,
            context=context,
            kind=self._kind,
            attributes=self._attributes,
            record_exception=False,
            **options,
        )
        return ForeignSpan(span, context, self.name, self._has_status, self._all_errors)

    def begin(self, carrier: Mapping[str, str] = {}) -> ForeignSpan:
        """Begin a span below the current one."""
        context = otel_context.get_current()
        if carrier and not propagation.span_context_of(context).is_valid:
            context = propagation.extract(carrier)
        return self._start(context)

    def unsampled(self) -> bytes:
        """Return b"": an SDK says so when a span begins."""
        return b""

    def brief(self) -> None:
        """Return None: an SDK has no short way."""

    def end(self, brief: Any) -> None:
        """End nothing; see `brief`."""

    def whole(self, brief: Any) -> ForeignSpan:
        """Fail: see `brief`."""
        raise NotImplementedError

    def current(self) -> ForeignSpan | None:
        """Return the span of this very call that an outer layer began."""
        found = otel_context.get_value(_CALL)
        if isinstance(found, ForeignSpan) and found.name == self.name:
            return found
        return None

    leave = None

    def receive(self, message: Message, wait: float) -> ForeignSpan:
        """Begin the span of a turn."""
        now = time_ns()
        context = Context()
        if message.header_block:
            # Broken ones the server tells of.
            with contextlib.suppress(InvalidArgument):
                context = propagation.remote(message)
        span = self._start(context, start_time=now - int(wait * 1e9))
        span.happened(conventions.MAILBOX, {conventions.MAILBOX_SECONDS: wait})
        span.enter()
        return span

    def accept(
        self, carrier: Mapping[str, Sequence[str] | str], *, is_public: bool = False
    ) -> ForeignSpan:
        """Begin the span of a request at a door."""
        context = propagation.extract(carrier, is_public=is_public)
        if not is_public:
            span = self._start(context)
        else:
            stranger = propagation.span_context_of(context)
            links = [api.Link(stranger)] if stranger.is_valid else []
            span = self._start(Context(), links=links)
        span.enter()
        return span


class ForeignTracer:
    """Maker of operations on a provider; see `kitmsg.tracing.seam.Tracer`.

    Args:
        provider: Of an SDK.
        all_errors: Whether business errors make a span an error.
    """

    def __init__(
        self, provider: api.TracerProvider, *, all_errors: bool = False
    ) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer(
            conventions.SCOPE, schema_url=conventions.SCHEMA_URL
        )
        self._all_errors = all_errors

    def client(self, name: str, attributes: Attributes) -> ForeignOperation:
        """Return the operation of calls that are made."""
        return self._operation(name, SpanKind.CLIENT, attributes)

    def server(self, name: str, attributes: Attributes) -> ForeignOperation:
        """Return the operation of calls that are served."""
        return self._operation(name, SpanKind.SERVER, attributes)

    def producer(self, name: str, attributes: Attributes) -> ForeignOperation:
        """Return the operation of messages that are stored."""
        return self._operation(name, SpanKind.PRODUCER, attributes)

    def consumer(self, name: str, attributes: Attributes) -> ForeignOperation:
        """Return the operation of deliveries."""
        return self._operation(name, SpanKind.CONSUMER, attributes)

    def _operation(
        self, name: str, kind: SpanKind, attributes: Attributes
    ) -> ForeignOperation:
        return ForeignOperation(
            self._tracer, name, kind, attributes, all_errors=self._all_errors
        )

    def flush(self, timeout: float) -> bool:
        """Have the provider export what has ended, if it can."""
        force = getattr(self._provider, "force_flush", None)
        return True if force is None else bool(force(int(timeout * 1000)))
