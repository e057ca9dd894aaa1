"""Spans as kitmsg records them: OpenTelemetry's API for users, plain slots for the pipeline.

Ids stay the hexadecimal text of the header; numbers are made when somebody asks.  Most calls
need none of these: see `kitmsg.tracing.turns`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import time_ns
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context as otel_context, trace as api
from opentelemetry.trace import SpanContext, Status, StatusCode

from kitmsg.errors import Code, code_of
from kitmsg.tracing import conventions, gathered, propagation
from kitmsg.tracing.active import attach

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from kitmsg.tracing.operations import RecordedOperation
    from kitmsg.tracing.seam import Attributes

__all__ = ["CALL", "NOWHERE", "SPAN", "RecordedSpan", "Unsampled"]

CALL: Final = otel_context.create_key("kitmsg.call")
"""Key of the client span that the call under way has from an outer layer."""

_SAMPLED: Final = api.TraceFlags(api.TraceFlags.SAMPLED)
_NOT_SAMPLED: Final = api.TraceFlags(api.TraceFlags.DEFAULT)
_ERROR_STATUS: Final = 500
_CLIENT_STATUS: Final = 400
_detach = otel_context.detach
NOWHERE: Final = otel_context.Context()
"""The context outside of all traces."""

(SPAN,) = api.set_span_in_context(api.INVALID_SPAN, otel_context.Context())


def _with(context: Context, key: str, value: object) -> Context:
    """Return a context with one value more; as `set_value` does, in half the time."""
    return otel_context.Context({**context, key: value} if context else {key: value})


class Unsampled(api.Span):
    """A span that is not recorded, and keeps what is below it from being recorded."""

    is_live = False
    gathers = False
    flags: bytes = b"00"
    state = ""
    _context: Context | None = None  # in which it is the current span, once made

    def __init__(
        self, trace: bytes, own: bytes, context: Context, operation: RecordedOperation
    ) -> None:
        self.trace = trace
        self.id = own
        self.operation = operation
        # The context that it was begun in, without it: baggage and what users put there.
        self._around = context

    # -- kitmsg's seam

    def line(self) -> bytes:
        """Return the headers of a message; see `kitmsg.tracing.seam.Span`."""
        if self.operation.is_plain and not self.state and len(self._around) <= 1:
            return b"traceparent: 00-%b-%b-%b\r\n\r\n" % (
                self.trace,
                self.id,
                self.flags,
            )
        fields = self.headers()
        lines = [f"{name}: {value}\r\n" for name, value in fields.items()]
        return ("".join(lines) + "\r\n").encode()

    def headers(self) -> dict[str, str]:
        """Return the headers of a request."""
        if self.operation.is_plain and not self.state and len(self._around) <= 1:
            ids = b"00-%b-%b-%b" % (self.trace, self.id, self.flags)
            return {"traceparent": ids.decode()}
        return propagation.inject(self.context())

    def context(self) -> Context:
        """Return the OpenTelemetry context in which it is the current span."""
        made = self._context
        if made is None:
            made = self._context = _with(self._around, SPAN, self)
        return made

    def enter(self, *, is_call: bool = False) -> Any:
        """Make it the current span of the task."""
        made = self._context or self.context()
        if is_call:
            made = self._context = _with(made, CALL, self)
        return attach(made)

    def leave(self, token: Any) -> None:
        """Make the span before it the current one again."""
        _detach(token)

    def waited(self, seconds: float) -> None:
        """Drop the time in the mailbox."""

    def note(self, name: str, value: str | float | bool) -> None:
        """Drop an attribute."""

    def rename(self, name: str) -> None:
        """Drop a name."""

    def happened(self, name: str, attributes: Attributes) -> None:
        """Drop an event."""

    def gathered(self) -> str:
        """Return nothing: its caller gets no spans."""
        return ""

    def gather(self, text: str) -> None:
        """Drop spans."""

    def finish(
        self, code: Code | None = None, text: str = "", *, is_business: bool = False
    ) -> None:
        """End it."""

    def answered(self, status: int) -> None:
        """End it."""

    # -- OpenTelemetry's API

    def get_span_context(self) -> SpanContext:
        """Return its ids."""
        if not propagation.are_ids(self.trace, self.id):
            return api.INVALID_SPAN_CONTEXT
        state = api.TraceState.from_header([self.state]) if self.state else None
        flags = _SAMPLED if self.flags == b"01" else _NOT_SAMPLED
        return SpanContext(int(self.trace, 16), int(self.id, 16), False, flags, state)

    def is_recording(self) -> bool:
        """Return False: what is written to it is dropped."""
        return False

    def end(self, end_time: int | None = None) -> None:
        """End it; kitmsg does."""

    def set_attribute(self, key: str, value: Any) -> None:
        """Drop an attribute."""

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Drop attributes."""

    def add_event(
        self, name: str, attributes: Any = None, timestamp: int | None = None
    ) -> None:
        """Drop an event."""

    def add_link(self, context: SpanContext, attributes: Any = None) -> None:
        """Drop a link."""

    def update_name(self, name: str) -> None:
        """Drop a name."""

    def set_status(
        self, status: Status | StatusCode, description: str | None = None
    ) -> None:
        """Drop a status."""

    def record_exception(
        self,
        exception: BaseException,
        attributes: Any = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Drop an exception."""


class RecordedSpan(Unsampled):
    """A span that is recorded.

    Attributes:
        parent: Span id of its parent, in hexadecimal; b"" for a root.
        start: Nanoseconds since the epoch; `stop` too, 0 while it goes on.
        wait: Seconds in the mailbox; None where there was none.
        attributes: Of this span alone, beside those of its operation.
        events: Time in ns, name and attributes of each.
        links: Spans of other traces.
        code: Status of the call, in gRPC's spelling; "" while it goes on.
        failure: Description of an error; None while all is well.
        bag: Spans that go back to the caller; None if nobody asked for them.
    """

    is_live = True
    # Most spans keep these, and so the class has them.
    stop = 0
    wait: float | None = None
    attributes: dict[str, Any] | None = None
    events: list[tuple[int, str, Mapping[str, Any]]] | None = None
    links: Sequence[api.Link] = ()
    code = ""
    failure: str | None = None
    bag: gathered.Bag | None = None
    _name = ""
    # Whether it has what not all spans of its operation have.
    _is_special = False

    def __init__(
        self,
        trace: bytes,
        own: bytes,
        context: Context,
        operation: RecordedOperation,
        parent: bytes,
        flags: bytes,
    ) -> None:
        self.trace = trace
        self.id = own
        self.operation = operation
        self._around = context
        self.parent = parent
        self.flags = flags
        self.start = time_ns()

    @property
    def name(self) -> str:
        """Of its operation, unless it was renamed."""
        return self._name or self.operation.name

    @property
    def gathers(self) -> bool:  # type: ignore[override]
        """Whether its caller gets the spans of this call."""
        return self.bag is not None

    def context(self) -> Context:
        """Return the OpenTelemetry context in which it is the current span."""
        made = super().context()
        if self.bag is not None and made.get(gathered.BAG) is not self.bag:
            made = self._context = _with(made, gathered.BAG, self.bag)
        return made

    def waited(self, seconds: float) -> None:
        """Count the time in the mailbox, which is over, as part of it."""
        self.wait = seconds
        self.start -= int(seconds * 1e9)

    @property
    def begun(self) -> int:
        """When it left the mailbox, in nanoseconds since the epoch."""
        return self.start + int((self.wait or 0.0) * 1e9)

    def note(self, name: str, value: str | float | bool) -> None:
        """Set an attribute."""
        self._is_special = True
        if self.attributes is None:
            self.attributes = {}
        self.attributes[name] = value

    def rename(self, name: str) -> None:
        """Give it another name."""
        self._name, self._is_special = name, True

    def happened(self, name: str, attributes: Attributes) -> None:
        """Add an event, now."""
        self._happened(time_ns(), name, attributes)

    def _happened(self, at: int, name: str, attributes: Mapping[str, Any]) -> None:
        self._is_special = True
        if self.events is None:
            self.events = []
        self.events.append((at, name, attributes))

    def gathered(self) -> str:
        """Return the spans of the call so far, this one as if it ended now."""
        return "" if self.bag is None else self.bag.text(self)

    def gather(self, text: str) -> None:
        """Take the spans that a reply brought."""
        if self.bag is not None:
            self.bag.add(text)

    def finish(
        self, code: Code | None = None, text: str = "", *, is_business: bool = False
    ) -> None:
        """End it; see `kitmsg.tracing.seam.Span`."""
        if self.stop:
            return
        if code is None:
            self.code = conventions.OK
        else:
            self.code = code.name
            every = self.operation.all_errors
            if conventions.is_fault(code, is_business=is_business, all_errors=every):
                self.note(conventions.ERROR_TYPE, code.name)
                self.failure = text
        self._close()

    def answered(self, status: int) -> None:
        """End it with an HTTP status."""
        if self.stop:
            return
        self.note(conventions.HTTP_STATUS, status)
        least = _CLIENT_STATUS if self.operation.all_errors else _ERROR_STATUS
        if status >= least:
            self.note(conventions.ERROR_TYPE, str(status))
            self.failure = self.failure or ""
        self._close()

    def _close(self, at: int | None = None) -> None:
        self.stop = at or time_ns()
        if self.bag is not None:
            self.bag.put(self)
        if self.flags == b"01":
            self.operation.put(self)

    # -- OpenTelemetry's API

    def is_recording(self) -> bool:
        """Return whether what is written to it is kept."""
        return not self.stop

    def end(self, end_time: int | None = None) -> None:
        """End it, before kitmsg does."""
        if not self.stop:
            self._close(end_time)

    def set_attribute(self, key: str, value: Any) -> None:
        """Set an attribute."""
        if not self.stop:
            self.note(key, value)

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Set attributes."""
        for key, value in attributes.items():
            self.set_attribute(key, value)

    def add_event(
        self, name: str, attributes: Any = None, timestamp: int | None = None
    ) -> None:
        """Add an event."""
        if not self.stop:
            self._happened(timestamp or time_ns(), name, dict(attributes or {}))

    def add_link(self, context: SpanContext, attributes: Any = None) -> None:
        """Add a link to another span."""
        if not self.stop:
            self._is_special = True
            self.links = (*self.links, api.Link(context, attributes))

    def update_name(self, name: str) -> None:
        """Give it another name."""
        if not self.stop:
            self.rename(name)

    def set_status(
        self, status: Status | StatusCode, description: str | None = None
    ) -> None:
        """Make it an error, or take that back."""
        if self.stop:
            return
        code = status
        if isinstance(status, Status):
            code, description = status.status_code, status.description
        self._is_special = True
        self.failure = (description or "") if code is StatusCode.ERROR else None

    def record_exception(
        self,
        exception: BaseException,
        attributes: Any = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Add an event that tells of an exception."""
        told = {
            "exception.type": type(exception).__qualname__,
            "exception.message": str(exception),
            **(attributes or {}),
        }
        self.add_event("exception", told, timestamp)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """End it, as a context manager of OpenTelemetry's does."""
        if error is not None and self.is_recording():
            self.record_exception(error)
            self.failure = f"{code_of(error).value}: {error}"
        self.end()
