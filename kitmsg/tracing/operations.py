"""Operations of the pipeline: when a span begins, below which parent, and whether it counts.

Hot path: `begin` and `receive` run for each call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import getrandbits
from time import time_ns
from typing import TYPE_CHECKING, Final

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, get_current_span

from kitmsg.errors import InvalidArgument
from kitmsg.message import Message
from kitmsg.tracing import propagation
from kitmsg.tracing.conventions import RPC_STATUS
from kitmsg.tracing.gathered import BAG, Bag
from kitmsg.tracing.otlp import (
    attributes_bytes,
    brief_encoder,
    head_bytes,
    status_attribute,
)
from kitmsg.tracing.spans import (
    CALL,
    SPAN,
    Brief,
    Off,
    RecordedSpan,
    Turn,
    Unsampled,
)
from kitmsg.wire import TRACE_BACK, TRACE_MARK

if TYPE_CHECKING:
    from kitmsg.tracing.sampling import Sampling
    from kitmsg.tracing.seam import Attributes

__all__ = ["RecordedOperation", "RecordingTracer"]

_NOWHERE: Final = Context()
_LOW: Final = (1 << 64) - 1
_HEX: Final = b"0123456789abcdef"
_UNSAMPLED: Final = b"traceparent: 00-%016x%016x-%016x-00\r\n\r\n"
_NO_HEADERS: Final[Mapping[str, str]] = {}
_ASKED: Final = f"\r\n{TRACE_BACK}: ".encode()
_current, _attach = otel_context.get_current, otel_context.attach


class RecordedOperation:
    """Spans of one kind; see `kitmsg.tracing.seam.Operation`.

    Attributes:
        name: Of its spans, unless they are renamed.
        kind: Client or server.
        attributes: Of all its spans.
        has_status: Whether its spans have the status of an RPC.
        all_errors: Whether business errors make a span an error.
        is_plain: Whether W3C headers go out, and nothing else.
        put: Takes spans that have ended.
        brief_bytes: Encodes its spans of `brief`.
        head: Name and kind as OTLP has them.
        tail: The attributes as OTLP has them.
    """

    def __init__(
        self,
        name: str,
        kind: SpanKind,
        attributes: Attributes,
        sampling: Sampling,
        put: Callable[[RecordedSpan | Brief], None],
        all_errors: bool,
        gathers: bool,
    ) -> None:
        self.name = name
        self.kind = kind
        self.attributes = dict(attributes)
        self.all_errors = all_errors
        self.is_plain = propagation.is_default()
        self.has_status = "rpc.system.name" in attributes
        self.put = put
        self.head = head_bytes(name, kind)
        self.tail = attributes_bytes(self.attributes)
        self.statuses: dict[str, bytes] = {}
        self.brief_bytes = brief_encoder(self)
        self._gathers = gathers
        self._is_cheap = self.is_plain and sampling.follows_parent
        self._bound = sampling.bound
        self._follows = sampling.follows_parent
        self._low = 0  # low bits of the next trace id, if drawn; see `unsampled`

    def status(self, code: str) -> bytes:
        """Return the attribute of an RPC's status, as OTLP has it."""
        found = self.statuses.get(code)
        if found is None:
            found = self.statuses[code] = status_attribute(RPC_STATUS, code)
        return found

    def unsampled(self) -> bytes:
        """Return the headers of a call whose trace is not kept; b"" for others."""
        context = _current()
        if context:
            found = context.get(SPAN)
            if isinstance(found, Unsampled) and not found.is_live:
                is_plain = len(context) == 1 and self.is_plain and not found.state
                return found.line() if is_plain else b""
            return b""
        low = getrandbits(64)
        if low < self._bound or not self.is_plain:
            self._low = low  # `begin` follows
            return b""
        return _UNSAMPLED % (getrandbits(64) or 1, low, getrandbits(64) or 1)

    def brief(self) -> tuple[bytes, Brief | None] | None:
        """Begin a span of which nobody but the pipeline will hear.

        Returns:
            The headers of its message, and the span as far as it is known, None for one
            that is not kept; None where one of `begin` is needed.
        """
        context = _current()
        if context:
            return self._brief_below(context)
        if not self.is_plain:
            return None
        bits = getrandbits(192)
        low = bits & _LOW
        if low >= self._bound:
            return _UNSAMPLED % (bits >> 128, low, bits >> 64 & _LOW), None
        raw = bits.to_bytes(24)
        ids = raw.hex()
        own, trace = ids[:16], ids[16:]
        line = f"traceparent: 00-{trace}-{own}-01\r\n\r\n".encode()
        return line, (self, trace, raw[:8], "", time_ns(), 0, None)

    def _brief_below(self, context: Context) -> tuple[bytes, Brief | None] | None:
        above = context.get(SPAN)
        if len(context) > 1 or not isinstance(above, Unsampled) or above.state:
            return None
        if not isinstance(above, RecordedSpan):
            return above.line(), None
        if above.bag is not None or above.flags != b"01":
            return None
        trace, parent = above.trace.decode(), above.id.decode()
        own = getrandbits(64).to_bytes(8)
        line = f"traceparent: 00-{trace}-{own.hex()}-01\r\n\r\n".encode()
        return line, (self, trace, own, parent, time_ns(), 0, None)

    def end(self, brief: Brief) -> None:
        """End a span of `brief`."""
        this, trace, own, parent, start, _, _ = brief
        self.put((this, trace, own, parent, start, time_ns(), None))

    def whole(self, brief: Brief) -> RecordedSpan:
        """Return a span of `brief` as one of `begin`: something is to be told of it."""
        _, trace, own, parent, start, *_ = brief
        ids = trace.encode(), own.hex().encode()
        span = RecordedSpan(*ids, _NOWHERE, self, parent.encode(), b"01")
        span.start = start
        return span

    def begin(self, carrier: Mapping[str, str] = _NO_HEADERS) -> Unsampled:
        """Begin a span below the current one; see `kitmsg.tracing.seam.Operation`."""
        context = _current()
        if carrier and not get_current_span(context).get_span_context().is_valid:
            context = propagation.extract(carrier)
        if not context:
            return self._root(context, None)
        return self._below(context)

    def current(self) -> Unsampled | None:
        """Return the span of this very call that an outer layer began."""
        found = _current().get(CALL)
        if isinstance(found, Unsampled) and found.operation.name == self.name:
            return found
        return None

    def receive(self, message: Message, wait: float) -> Unsampled:
        """Begin the span of a turn; see `kitmsg.tracing.seam.Operation`."""
        block = message.header_block
        if (
            message.is_plain
            and block[-74:-56] == TRACE_MARK
            and self._is_cheap
            and b"\r\ntracestate" not in block
            and b"\r\nbaggage" not in block
        ):
            # Nothing but a trace: its ids are cut out when somebody asks.
            flags = block[-6:-4]
            if flags == b"00":
                off = Off(block, self)
                _attach(Context({SPAN: off}))
                return off
            if flags == b"01" and block[-56:-7].translate(None, _HEX) == b"-":
                turn = Turn(block, self, wait, getrandbits(64) or 1)
                _attach(Context({SPAN: turn}))
                return turn
        ids = (
            (b"", b"", b"")
            if message.is_plain and TRACE_MARK not in block
            else propagation.split(block)
        )
        bag = None
        if self._gathers and _ASKED in block:
            bag = Bag()
        if ids is None or not self.is_plain:
            span = self._remote(message, bag)
        elif ids[0]:
            trace, parent, flags = ids
            is_kept = flags == b"01" or bool(int(flags, 16) & 1)
            span = self._child(trace, parent, is_kept, _NOWHERE, bag)
        else:
            span = self._root(_NOWHERE, bag)
        span.waited(wait)
        span.enter()
        return span

    def _remote(self, message: Message, bag: Bag | None) -> Unsampled:
        try:
            context = propagation.remote(message)
        except InvalidArgument:  # the headers are broken; the server says so
            return self._root(_NOWHERE, bag)
        return self._below(context, bag)

    def accept(
        self, carrier: Mapping[str, Sequence[str] | str], *, is_public: bool = False
    ) -> Unsampled:
        """Begin the span of a request at a door; see `kitmsg.tracing.seam.Operation`."""
        if self.is_plain and propagation.has_none(carrier):
            span = self._root(_NOWHERE, None)
            span.enter()
            return span
        context = propagation.extract(carrier, is_public=is_public)
        if not is_public:
            span = self._below(context)
        else:
            span = self._root(_NOWHERE, None)
            stranger = propagation.span_context_of(context)
            if stranger.is_valid:
                span.add_link(stranger)
        span.enter()
        return span

    def _below(self, context: Context, bag: Bag | None = None) -> Unsampled:
        """Begin a span below that of a context."""
        parent = get_current_span(context)
        bag = bag or context.get(BAG)  # type: ignore[assignment]  # ours alone
        if isinstance(parent, Unsampled):
            is_kept = parent.flags == b"01"
            span = self._child(parent.trace, parent.id, is_kept, context, bag)
            span.state = parent.state
            return span
        of = parent.get_span_context()
        if not of.is_valid:
            return self._root(context, bag)
        trace, own = b"%032x" % of.trace_id, b"%016x" % of.span_id
        span = self._child(trace, own, of.trace_flags.sampled, context, bag)
        if of.trace_state:
            span.state = of.trace_state.to_header()
        return span

    def _child(
        self,
        trace: bytes,
        parent: bytes,
        is_kept: bool,
        context: Context,
        bag: Bag | None,
    ) -> Unsampled:
        if not self._follows:
            is_kept = int(trace[16:], 16) < self._bound
        if not is_kept and bag is None:
            return Unsampled(trace, parent, context, self)
        own = b"%016x" % (getrandbits(64) or 1)
        flags = b"01" if is_kept else b"00"
        span = RecordedSpan(trace, own, context, self, parent, flags)
        span.bag = bag
        return span

    def _root(self, context: Context, bag: Bag | None) -> Unsampled:
        low, self._low = self._low or getrandbits(64), 0
        trace = b"%016x%016x" % (getrandbits(64) or 1, low)
        own = b"%016x" % (getrandbits(64) or 1)
        is_kept = low < self._bound
        if not is_kept and bag is None:
            return Unsampled(trace, own, context, self)
        flags = b"01" if is_kept else b"00"
        span = RecordedSpan(trace, own, context, self, b"", flags)
        span.bag = bag
        return span


class RecordingTracer:
    """Maker of operations whose spans go to a pipeline; see `kitmsg.tracing.seam.Tracer`.

    Args:
        sampling: Of new traces.
        put: Takes spans that have ended.
        flush: Exports them, in so many seconds.
        all_errors: Whether business errors make a span an error.
        gathers: Whether callers that ask for the spans of their calls get them.
    """

    def __init__(
        self,
        sampling: Sampling,
        put: Callable[[RecordedSpan | Brief], None],
        flush: Callable[[float], bool],
        *,
        all_errors: bool = False,
        gathers: bool = False,
    ) -> None:
        self._sampling = sampling
        self._put = put
        self._flush = flush
        self._all_errors = all_errors
        self._gathers = gathers

    def client(self, name: str, attributes: Attributes) -> RecordedOperation:
        """Return the operation of calls that are made."""
        return self._operation(name, SpanKind.CLIENT, attributes)

    def server(self, name: str, attributes: Attributes) -> RecordedOperation:
        """Return the operation of calls that are served."""
        return self._operation(name, SpanKind.SERVER, attributes)

    def producer(self, name: str, attributes: Attributes) -> RecordedOperation:
        """Return the operation of messages that are stored."""
        return self._operation(name, SpanKind.PRODUCER, attributes)

    def consumer(self, name: str, attributes: Attributes) -> RecordedOperation:
        """Return the operation of deliveries."""
        return self._operation(name, SpanKind.CONSUMER, attributes)

    def _operation(
        self, name: str, kind: SpanKind, attributes: Attributes
    ) -> RecordedOperation:
        return RecordedOperation(
            name,
            kind,
            attributes,
            self._sampling,
            self._put,
            self._all_errors,
            self._gathers,
        )

    def flush(self, timeout: float) -> bool:
        """Export what has ended; see `kitmsg.tracing.seam.Tracer`."""
        return self._flush(timeout)
