"""Operations of the pipeline: when a span begins, below which parent, and whether it counts.

Hot path: `begin` and `receive` run for each call.
"""

from __future__ import annotations

from binascii import unhexlify
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from random import getrandbits
from time import time_ns
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import SpanKind, get_current_span

from kitmsg.errors import InvalidArgument
from kitmsg.message import Message
from kitmsg.tracing import propagation
from kitmsg.tracing.active import attach, current
from kitmsg.tracing.conventions import RPC_STATUS
from kitmsg.tracing.gathered import BAG, Bag
from kitmsg.tracing.otlp import (
    attributes_bytes,
    brief_encoder,
    head_bytes,
    status_attribute,
    turn_encoder,
)
from kitmsg.tracing.sampling import Draws, Sampling, ids_of
from kitmsg.tracing.spans import CALL, NOWHERE, SPAN, RecordedSpan, Unsampled
from kitmsg.tracing.turns import Brief, Ended, KeptContext, OffTurn, Turn
from kitmsg.wire import (
    IDS_FROM,
    TRACE_BACK,
    TRACE_FROM,
    TRACE_MARK,
    UNKEPT_END,
    UNKEPT_FROM,
    plain_headers,
)

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from kitmsg.tracing.seam import Attributes

__all__ = ["RecordedOperation", "RecordingTracer"]

_MOST_KNOWN: Final = 4096
_DASH: Final = ord("-")
# A time of up to ten digits, and a trace: too short for another header, whose name alone has
# seven letters and more.
_MOST_BRIEF: Final = len(plain_headers(0)) + 9 - TRACE_FROM - len(b"\r\n\r\n")
# A time of up to seven digits: too short for any other header of these.
_MOST_BARE: Final = len(plain_headers(0)) + 6
_NO_HEADERS: Final[Mapping[str, str]] = {}
_ASKED: Final = f"\r\n{TRACE_BACK}: ".encode()


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
        leave: See `kitmsg.tracing.seam.Operation`.
        head: Name and kind as OTLP has them.
        tail: The attributes as OTLP has them.
    """

    def __init__(
        self,
        name: str,
        kind: SpanKind,
        attributes: Attributes,
        sampling: Sampling,
        draws: Draws,
        put: Callable[[Ended], None],
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
        self._gathers = gathers
        self._is_cheap = self.is_plain and sampling.follows_parent
        self._bound = sampling.bound
        self._draws, self._follows = draws, sampling.follows_parent
        # Who does not follow decides by the id, which has to be there then.
        self._mark = draws.pop if self._follows else draws.next
        # Headers of traces that are not kept, where nobody has asked for their ids.
        self.unkept = draws.unkept
        self.leave = self._leave if self._is_cheap else None

    @cached_property
    def brief_bytes(self) -> Callable[[Brief], bytes]:
        """Encoder of its spans of `brief`."""
        return brief_encoder(self)

    @cached_property
    def turn_bytes(self) -> Callable[[Turn], bytes]:
        """Encoder of its turns."""
        return turn_encoder(self)

    def status(self, code: str) -> bytes:
        """Return the attribute of an RPC's status, as OTLP has it."""
        found = self.statuses.get(code)
        if found is None:
            found = self.statuses[code] = status_attribute(RPC_STATUS, code)
        return found

    def unsampled(self) -> bytes:
        """Return the headers of a call whose trace is not kept; b"" for others."""
        context = current()
        if context:
            return self._unsampled_below(context)
        if not self.is_plain:
            return b""
        draw = self._draws.next()
        if isinstance(draw, bytes):
            return draw
        self._draws.put_back(draw)  # `begin` follows
        return b""

    def _unsampled_below(self, context: Context) -> bytes:
        if isinstance(context, OffTurn):
            return context.line() if self.is_plain else b""
        found = context.get(SPAN)
        if not isinstance(found, Unsampled) or found.is_live or found.state:
            return b""
        return found.line() if len(context) == 1 and self.is_plain else b""

    def brief(self) -> bytes | tuple[bytes, Brief] | None:
        """Begin a span of which nobody but the pipeline will hear.

        Returns:
            The headers of its message, and the span as far as it is known; the headers
            alone for one that is not kept; None where one of `begin` is needed.
        """
        context = current()
        if context:
            return self._brief_below(context)
        if not self.is_plain:
            return None
        try:
            draw = self._mark()
        except IndexError:
            draw = self._draws.mark()
        if isinstance(draw, bytes):
            return draw
        line, trace, own = draw
        return line, Brief(self, trace, own, "", time_ns())

    def _brief_below(self, context: Context) -> bytes | tuple[bytes, Brief] | None:
        if isinstance(context, OffTurn) and self.is_plain:
            return context.line()
        if isinstance(context, KeptContext) and self.is_plain:
            trace, parent = context.turn.ids()
        else:
            above = context.get(SPAN)
            if len(context) > 1 or not isinstance(above, Unsampled) or above.state:
                return None
            if not isinstance(above, RecordedSpan):
                return above.line()
            if above.bag is not None or above.flags != b"01":
                return None
            trace, parent = above.trace.decode(), above.id.decode()
        own = getrandbits(64).to_bytes(8)
        line = f"traceparent: 00-{trace}-{own.hex()}-01\r\n\r\n".encode()
        return line, Brief(self, trace, own, parent, time_ns())

    def end(self, brief: Brief) -> None:
        """End a span of `brief`."""
        brief.stop = time_ns()
        self.put(brief)

    def whole(self, brief: Brief) -> RecordedSpan:
        """Return a span of `brief` as one of `begin`: something is to be told of it."""
        return brief.span()

    def begin(self, carrier: Mapping[str, str] = _NO_HEADERS) -> Unsampled:
        """Begin a span below the current one; see `kitmsg.tracing.seam.Operation`."""
        context = current()
        if carrier and not get_current_span(context).get_span_context().is_valid:
            context = propagation.extract(carrier)
        if not context:
            return self._root(context, None)
        return self._below(context)

    def current(self) -> Unsampled | None:
        """Return the span of this very call that an outer layer began."""
        found = current().get(CALL)
        if isinstance(found, Unsampled) and found.operation.name == self.name:
            return found
        return None

    def receive(  # noqa: PLR0911
        self, message: Message, wait: float
    ) -> Unsampled | Turn | OffTurn:
        """Begin the span of a turn; see `kitmsg.tracing.seam.Operation`."""
        block = message.header_block
        if not (message.is_plain and self._is_cheap):
            return self._receive(message, wait)
        if block[TRACE_FROM:IDS_FROM] != TRACE_MARK:
            if block[UNKEPT_FROM:] == UNKEPT_END:
                return self._leave()
            if len(block) <= _MOST_BARE and self._draws.is_unkept():
                return self._leave()
            return self._receive(message, wait)
        if len(block) > _MOST_BRIEF and propagation.has_more(block):
            return self._receive(message, wait)
        # Nothing but a trace: its ids are cut out when somebody asks.
        flags = block[-6:-4]
        if flags == b"00":
            off = self._leave()
            off.block = block
            return off
        if flags != b"01" or block[-24] != _DASH:
            return self._receive(message, wait)
        try:
            trace, parent = unhexlify(block[-56:-24]), unhexlify(block[-23:-7])
        except ValueError:
            return self._receive(message, wait)
        start = time_ns() - int(wait * 1e9)
        turn = Turn(self, trace, parent, getrandbits(64) or 1, start, wait)
        context = KeptContext()
        context.turn = turn
        attach(context)
        return turn

    def _leave(self) -> OffTurn:
        """Enter the turn of a trace that is not kept, and has no ids yet."""
        turn = OffTurn()
        turn.block, turn.operation = b"", self
        attach(turn)
        return turn

    def _receive(self, message: Message, wait: float) -> Unsampled:
        block = message.header_block
        ids = propagation.split(block)
        bag = None
        if self._gathers and _ASKED in block:
            bag = Bag()
        if ids is None or not self.is_plain:
            span = self._remote(message, bag)
        elif ids[0]:
            trace, parent, flags = ids
            is_kept = flags == b"01" or bool(int(flags, 16) & 1)
            span = self._child(trace, parent, is_kept, NOWHERE, bag)
        else:
            span = self._root(NOWHERE, bag)
        span.waited(wait)
        span.enter()
        return span

    def _remote(self, message: Message, bag: Bag | None) -> Unsampled:
        try:
            context = propagation.remote(message)
        except InvalidArgument:  # the headers are broken; the server says so
            return self._root(NOWHERE, bag)
        return self._below(context, bag)

    def accept(
        self, carrier: Mapping[str, Sequence[str] | str], *, is_public: bool = False
    ) -> Unsampled:
        """Begin the span of a request at a door; see `kitmsg.tracing.seam.Operation`."""
        if self.is_plain and propagation.has_none(carrier):
            span = self._root(NOWHERE, None)
            span.enter()
            return span
        context = propagation.extract(carrier, is_public=is_public)
        if not is_public:
            span = self._below(context)
        else:
            span = self._root(NOWHERE, None)
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
        draw = self._draws.next()
        is_kept = not isinstance(draw, bytes)
        trace, own = ids_of(draw if isinstance(draw, bytes) else draw[0])
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
        put: Callable[[Ended], None],
        flush: Callable[[float], bool],
        *,
        all_errors: bool = False,
        gathers: bool = False,
    ) -> None:
        self._sampling = sampling
        self._draws = Draws(sampling)
        self._known: dict[tuple[Any, ...], RecordedOperation] = {}
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
        # Those of deliveries are asked for once for each of them.
        key = name, kind, *attributes.items()
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            found = self._known[key] = RecordedOperation(
                name,
                kind,
                attributes,
                self._sampling,
                self._draws,
                self._put,
                self._all_errors,
                self._gathers,
            )
        return found

    def flush(self, timeout: float) -> bool:
        """Export what has ended; see `kitmsg.tracing.seam.Tracer`."""
        return self._flush(timeout)
