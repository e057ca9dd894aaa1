"""A subject, served by an endpoint.

Phases, in Go kit's order: before, decode, endpoint, after, encode, finalizer.  Any error
goes to the log (if it is the service's fault) and to `error_encoder`.

Hot path: `receive` and `_serve` run for every message and are flat on purpose.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter_ns
from typing import Any, Final, TypeAlias

import msgspec

from kitmsg.auth import Principal
from kitmsg.auth.vouched import PENDING, PrincipalVerifier
from kitmsg.bus import Bus
from kitmsg.context import Context, enter
from kitmsg.endpoints import Endpoint
from kitmsg.errors import (
    Cancelled,
    Code,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    KitError,
    ResourceExhausted,
    Unavailable,
)
from kitmsg.message import Message, check_subject, encode_headers
from kitmsg.metrics.stats import EndpointStats
from kitmsg.tracing import tracer
from kitmsg.tracing.conventions import bus_attributes, exception_attributes
from kitmsg.tracing.seam import TurnSpan
from kitmsg.transport.failures import (
    ErrorEncoder,
    Failures,
    OnFailure,
    set_by_handler,
    text_of,
)
from kitmsg.transport.heads import Head, Heads
from kitmsg.transport.intake import Intake
from kitmsg.transport.lateness import NOISE
from kitmsg.transport.replies import Declared, declaration, error_code
from kitmsg.transport.transfer import is_elsewhere, respond_long
from kitmsg.transport.typed import Decode, Encode
from kitmsg.wire import (
    CALLER,
    IDS_FROM,
    SECRET_CHARS,
    TRACE_FROM,
    TRACE_MARK,
    UNKEPT_END,
    has_trace_last,
    timeout_ms,
)

__all__ = ["CancelledWithin", "Server"]

_log = logging.getLogger("kitmsg.service")

_MOST_PLAIN: Final = 256

UNSAID_TIMEOUT: Final = 10.0
"""Seconds for a caller that gives no deadline, as a plain NATS client; Go kit's default."""

Before: TypeAlias = Callable[[Context, Message], None]
"""Sees the request before it is decoded; raising refuses it."""

After: TypeAlias = Callable[[Context, dict[str, str]], None]
"""May add headers to a successful reply."""

_Receive: TypeAlias = Callable[[Message, float], TurnSpan | None]

Finalizer: TypeAlias = Callable[[Context, Message, BaseException | None], None]
"""Runs last, whatever happened, with what went wrong or None."""


class _Turn(msgspec.Struct, eq=False):
    """One request on its way; see `kitmsg.mailbox.Turn`."""

    server: Server
    message: Message
    deadline: float | None
    head: Head | None = None  # of headers that need not be parsed
    has_begun: bool = False
    # When it was read, if its caller was not known well then; see `Lateness`.
    read_at: float | None = None
    error: BaseException | None = None  # the CancelledError that ended it, if one did
    took_ns: int = 0  # of one that a `CancelledError` ended, until `ended` says why
    since_ns: int = 0  # when it came into the mailbox, where it is traced
    is_unkept: bool = False  # of a trace that is not kept, and has no ids yet
    span: TurnSpan | None = None  # from the beginning of its work, where it is traced

    def __repr__(self) -> str:
        return f"a turn of {self.server.name}"

    @property
    def reply(self) -> str:
        return self.message.reply

    def run(self) -> Awaitable[None]:
        return self.server.serve(self)

    def ended(self, code: Code) -> None:
        self.server.ended(self, code)


class CancelledWithin(RuntimeError):
    """An endpoint let out a `CancelledError`, though nobody cancelled the call.

    It awaited a task of its own that was cancelled, most likely.
    """

    @classmethod
    def by(cls, error: BaseException | None) -> CancelledWithin:
        """Return the error to log, whose cause is `error`."""
        made = cls("something that it awaited was cancelled, and not by the caller")
        made.__cause__ = error
        return made


class Server:
    """Serves `subject` by `endpoint`.

    Args:
        bus: What carries the messages.
        subject: Where requests arrive.
        endpoint: What to do with them.
        decode: Makes a request of a message.
        encode: Makes a payload of a response.
        name: Dotted name in metrics, logs and contexts; the subject by default.
        queue: Queue group to join; by default that of `intake`.
        timeout: Longest turn, in seconds, when the caller gives no less; None for the
            caller's word alone, and 10 s if it gives none.
        raises: Exception classes that travel typed.
        before: Run first, in order; raising refuses the request.
        after: Run on success, before encoding; may add reply headers.
        error_encoder: Makes the reply for an error; by default as `docs/protocol.md` says.
        finalizer: Run last, with the error or None.
        intake: Shares a mailbox with other servers; by default this server has its own.
        on_failure: Told of each error that nobody declared, and of the request, for
            supervision.
        verifier: Finds the principal that a request was vouched for; by default callers
            are nobody.

    Raises:
        InvalidArgument: `subject` is malformed.
        ValueError: `intake` serves the subject already.
    """

    def __init__(
        self,
        bus: Bus,
        subject: str,
        endpoint: Endpoint[Any, Any],
        *,
        decode: Decode,
        encode: Encode,
        name: str = "",
        queue: str = "",
        timeout: float | None = None,
        raises: Sequence[type[Exception]] = (),
        before: Sequence[Before] = (),
        after: Sequence[After] = (),
        error_encoder: ErrorEncoder | None = None,
        finalizer: Sequence[Finalizer] = (),
        intake: Intake | None = None,
        on_failure: OnFailure | None = None,
        verifier: PrincipalVerifier | None = None,
    ) -> None:
        self.bus = bus
        self.subject = check_subject(subject)
        self.endpoint, self.timeout = endpoint, timeout
        self.name, self.queue = name or subject, queue
        self.stats = EndpointStats()
        self._decode = decode
        self._encode = encode
        self._declared = {cls.__name__: Declared.of(cls) for cls in raises}
        self._before, self._after = tuple(before), tuple(after)
        self._finalizer = tuple(finalizer)
        self._verifier = verifier
        # Seconds that a request may take, by header block, of those that are plain: most
        # requests bring the block of others before.
        self._plain_left: dict[bytes, float] = {}
        # The same for those that are taken in one step, and whether their trace is not kept
        # and has no ids yet; with the ids of a trace, up to these.
        self._quick_left: dict[bytes, tuple[float, bool]] = {}
        self._quick_traced: dict[bytes, tuple[float, bool]] = {}
        self._heads = Heads()
        self._now: Callable[[], float] = self._first_now
        self.intake = intake or Intake(bus, subject.partition(".")[0])
        self.intake.add(self)
        self._lateness, self._inboxes = self.intake.lateness, bus.inboxes.starts
        self._arrivals = self._lateness.arrivals
        self._respond, self._offer = bus.respond, self.intake.mailbox.offer
        off = self.intake.off
        self._ends_late = "deadline" not in off
        self._counts = "metrics" not in off
        self._failures = Failures(
            bus,
            self.name,
            self.stats,
            declared=self._declared,
            encoder=error_encoder,
            on_failure=on_failure,
            logs="error_log" not in off,
            respond_long=self._respond_long,
            send=self._send_error,
        )
        self._trace, self._leave = self._operation()
        self._is_marked = self._trace is not None or not self._propagates
        self._is_guarded = bool(verifier or self._before)

    def _first_now(self) -> float:
        """Return the time of the loop that this runs on, and ask that from now on."""
        self._now = asyncio.get_running_loop().time
        return self._now()

    def _operation(self) -> tuple[_Receive | None, Callable[[], TurnSpan] | None]:
        """Return what begins the span of a turn, and what does where none is kept.

        None where nothing is traced; for the second see `Operation.leave`.
        """
        self._propagates = "trace" not in self.intake.off
        found = tracer()
        if found is None:
            return None, None
        if not self._propagates:
            from kitmsg.tracing.untraced import leave_traces

            return leave_traces, None
        operation = found.server(self.name, bus_attributes(self.name, self.subject))
        return operation.receive, operation.leave

    async def start(self) -> None:
        """Start serving; with a shared intake, start that instead."""
        await self.intake.start()

    async def drain(self, timeout: float = 25.0) -> None:
        """Stop as `Intake.drain` does."""
        await self.intake.drain(timeout)

    def replace(self, endpoint: Endpoint[Any, Any]) -> None:
        """Serve by another endpoint from now on; turns that run keep the old one."""
        self.endpoint = endpoint

    async def wind_down(self, timeout: float) -> None:
        """End what runs beside the mailbox; here nothing does."""

    def receive(self, message: Message) -> None:  # noqa: PLR0912, PLR0915
        """Take a message from the bus into the mailbox, or answer why not."""
        reply, block = message.reply, message.header_block
        # Reply subjects like one that was taken lately are inboxes; see `Lateness.arrivals`.
        arrival = self._arrivals.get(reply[:-SECRET_CHARS])
        now = self._now()
        if arrival is not None and 0.0 <= now - arrival <= NOISE:
            quick = self._quick_left.get(block)
            if quick is None and self._trace is not None:
                quick = self._quick_traced.get(block[:IDS_FROM])
            if quick is not None:  # as nearly always: nothing else has to be asked
                message.is_plain = True
                seconds, is_unkept = quick
                turn = _Turn(self, message, now + seconds)
                if self._trace is not None:
                    if is_unkept:
                        turn.is_unkept = True
                    else:
                        turn.since_ns = perf_counter_ns()
                if not self._offer(turn):
                    self._shed(message)
                return
        elif arrival is None and reply and not reply.startswith(self._inboxes):
            self.bus.inboxes.refuse(reply)
            return
        head: Head | None = None
        is_traced = block[TRACE_FROM:IDS_FROM] == TRACE_MARK
        left = self._plain_left.get(block[:TRACE_FROM] if is_traced else block)
        if left is not None:
            message.is_plain = True
        elif (known := self._heads.of(message)) is not None:
            said, head = known
            message.is_plain = head.codec is None
            left, limit = said / 1000, self.timeout
            if limit is not None and limit < left:
                left = limit
        else:
            left = self._left(message)
            if left is None:
                return
        is_new = False
        if (arrival is None or not 0.0 <= now - arrival <= NOISE) and reply:
            late = self._lateness.of(reply, now)
            is_new = not late and now - self._lateness.learned <= NOISE
            if late and left <= late and self._ends_late:
                self._came_late(message, late)
                return
            left -= late
        deadline = now + left if self._ends_late else None
        is_read = head is not None or message.is_plain
        if not is_read and is_elsewhere(message.header_block):
            whole = functools.partial(self._receive_whole, deadline)
            self.intake.fetcher.start(message, left, whole, self._refuse)
            return
        turn = _Turn(self, message, deadline, head)
        if self._trace is not None:
            turn.since_ns = perf_counter_ns()  # the loop's may tick in milliseconds
        if is_new:
            turn.read_at = now
        if not self._offer(turn):
            self._shed(message)

    def _left(self, message: Message) -> float | None:
        """Return the seconds that a request may take; None for one that was refused."""
        limit = self.timeout
        try:
            said = timeout_ms(message)
        except InvalidArgument as exc:
            self._refuse(message, exc)
            return None
        left = UNSAID_TIMEOUT if limit is None else limit
        if said is not None:
            left = said / 1000 if limit is None else min(said / 1000, limit)
        if message.is_plain:
            if len(self._plain_left) >= _MOST_PLAIN:
                self._plain_left.clear()
                self._quick_left.clear()
                self._quick_traced.clear()
            block = message.header_block
            is_traced = has_trace_last(block)
            self._plain_left[block[:TRACE_FROM] if is_traced else block] = left
            if self._ends_late and is_traced:
                self._quick_traced[block[:IDS_FROM]] = left, False
            elif self._ends_late:
                # Another tracer looks at the message, and at how long it waited.
                is_unkept = self._leave is not None and block.endswith(UNKEPT_END)
                self._quick_left[block] = left, is_unkept
        return left

    def _receive_whole(self, deadline: float | None, message: Message) -> None:
        """Take a long request, now that it is here; its time has run meanwhile."""
        turn = _Turn(self, message, deadline)
        if self._trace is not None:
            turn.since_ns = perf_counter_ns()
        if not self._offer(turn):
            self._shed(message)

    def _came_late(self, message: Message, late: float) -> None:
        """Drop a request whose caller has given up; refuse one whose caller may have."""
        if self._lateness.is_guess:
            stood = f"{self.name} stood still, for {late:.1f} s at most, before it read this"
            self._refuse(message, Unavailable(stood))
        else:
            self.stats.expired += 1

    def in_hand(self) -> tuple[int, int]:
        """Return how many of this server's turns run, and how many wait."""
        running, waiting = (
            sum(1 for turn in turns if isinstance(turn, _Turn) and turn.server is self)
            for turns in self.intake.mailbox.turns()
        )
        return running, waiting

    def cancel(self, reply: str) -> bool:
        """End what runs beside the mailbox and answers on `reply`; here nothing does."""
        return False

    async def serve(self, turn: _Turn) -> None:  # noqa: PLR0912, PLR0915
        """Run one turn, from message to reply."""
        message = turn.message
        reply = message.reply
        deadline = turn.deadline
        if turn.read_at is not None and deadline is not None:
            deadline -= self._lateness.of(reply, turn.read_at)
            turn.deadline = deadline
        now = self._now()
        if deadline is not None and deadline <= now:
            self.stats.expired += 1
            return
        turn.has_begun = True
        started = perf_counter_ns()
        ctx = Context(deadline=deadline, endpoint=self.name, message=message)
        enter(ctx)
        span = None
        if self._is_marked:
            ctx.propagates = self._propagates
            if turn.is_unkept and self._leave is not None:
                ctx._span = self._leave()  # noqa: SLF001
            elif self._trace is not None:
                wait = (started - turn.since_ns) / 1e9
                span = ctx._span = self._trace(message, wait)  # noqa: SLF001
                if span is not None and not span.is_live:
                    span = None
                turn.span = span
        head = turn.head
        error: BaseException | None = None
        data: bytes | None = None
        header_block = b""
        try:
            if self._is_guarded:
                if self._verifier is not None and message.header_block:
                    ctx.principal = self._verifier.recall(message.header_block, now)
                    if ctx.principal is PENDING:
                        ctx.principal = await self._verify(message)
                for before in self._before:
                    before(ctx, message)
            if head is not None:
                ctx.codec = head.codec
                self._note_caller(head.caller)
            elif not message.is_plain:
                self._note_caller(message.headers.get(CALLER, ""))
            request = self._decode(ctx, message)
            response = await self.endpoint(ctx, request)
            if self._after or ctx._reply is not None or (span and span.gathers):  # noqa: SLF001
                header_block = self._reply_headers(ctx)
            data = self._encode(ctx, response)
            if span is not None:
                span.finish()  # before its caller's, which the reply ends
            if reply:
                self._respond(message, data, header_block)
        except asyncio.CancelledError as exc:
            error = turn.error = exc
            raise  # the mailbox knows why, and calls `ended`
        except BaseException as exc:
            error = exc
            if data is not None and isinstance(exc, InvalidArgument):
                error = await self._respond_long(message, data, header_block)
            if error is not None:
                if span is not None:
                    self._finish(span, error)
                await self._failures.fail(ctx, message, error)
            if isinstance(error, (GeneratorExit, KeyboardInterrupt)):
                raise  # the end of this task, or of the process
        finally:
            if error is not None:
                if self._counts:
                    self._count_failure(turn, error, perf_counter_ns() - started)
                if span is not None:
                    self._finish(span, error)
            elif self._counts:
                self.stats.observe(perf_counter_ns() - started, message)
            for finalizer in self._finalizer:
                finalizer(ctx, message, error)

    def _count_failure(self, turn: _Turn, error: BaseException, took_ns: int) -> None:
        """Count a turn that failed; of one that was cut short, `ended` says how."""
        self.stats.observe(took_ns)
        if isinstance(error, asyncio.CancelledError):
            turn.took_ns = took_ns
        else:
            code = error_code(error, self._declared)
            self.stats.broke(code.value, took_ns, turn.message)

    def _finish(self, span: TurnSpan, error: BaseException | None) -> None:
        """End the span of a turn; `ended` ends that of one that was cut short."""
        if error is None:
            span.finish()
        elif not isinstance(error, asyncio.CancelledError):
            if not self._failures.is_told(error):
                span.happened("exception", exception_attributes(error))
            is_business = bool(declaration(error, self._declared))
            code = error_code(error, self._declared)
            span.finish(code, text_of(error), is_business=is_business)

    def ended(self, turn: _Turn, code: Code) -> None:
        """Answer a turn that was cut short; see `kitmsg.mailbox.Turn.ended`."""
        if turn.span is not None:
            turn.span.finish(code, "the turn was cut short")
        if turn.took_ns:
            self.stats.broke(code.value, turn.took_ns, turn.message)
        ctx = Context(endpoint=self.name, message=turn.message)
        if code is Code.UNAVAILABLE:
            stopping = Unavailable(f"{self.name} is stopping")
            if not turn.has_begun:
                stopping.before(self.name)
            self._failures.answer(ctx, turn.message, stopping)
            return
        if code is Code.RESOURCE_EXHAUSTED:
            self._shed(turn.message)
            return
        if code is Code.INTERNAL:
            self._failures.failed(ctx, turn.message, CancelledWithin.by(turn.error))
            return
        self.stats.cancelled += 1
        if code is Code.DEADLINE_EXCEEDED:
            late = DeadlineExceeded(f"{self.name} did not finish in time")
            self._failures.answer(ctx, turn.message, late)
        else:
            self._failures.answer(
                ctx, turn.message, Cancelled(f"{self.name} was cancelled")
            )

    def _reply_headers(self, ctx: Context) -> bytes:
        fields = set_by_handler(ctx)
        for hook in self._after:
            hook(ctx, fields)
        return encode_headers(fields)

    async def _respond_long(
        self, message: Message, data: bytes, header_block: bytes
    ) -> KitError | None:
        """Answer with what is too long for one message; returns what went wrong."""
        most = self.intake.max_bytes
        if len(data) > most:
            return Internal(
                f"the response of {self.name} is {len(data)} bytes; at most {most} are sent"
            )
        return await respond_long(self.bus, message, data, header_block)

    async def _verify(self, message: Message) -> Principal | None:
        """Return the principal of a request; one that does not hold is counted."""
        if self._verifier is None:
            return None
        now = asyncio.get_running_loop().time()
        found = self._verifier.recall(message.header_block, now)
        if found is PENDING:
            found = await self._verifier.verify(message.headers, self.name)
            self.stats.unvouched += found is None
        return found

    def _note_caller(self, caller: str) -> None:
        if caller and self._counts:
            self.stats.called_by(caller)

    def _refuse(self, message: Message, error: KitError) -> None:
        """Answer a message that never became a turn."""
        self.stats.refuse(error.code.value)
        self._failures.answer(self._outside(message), message, error.before(self.name))

    def _outside(self, message: Message) -> Context:
        """Return a context to answer with, of a message that never became a turn."""
        block = message.header_block
        brings_id = block and block not in self._plain_left
        return Context(endpoint=self.name, message=message if brings_id else None)

    def _shed(self, message: Message) -> None:
        self.stats.shed += 1
        box = self.intake.mailbox
        done = self.stats.requests
        each = self.stats.processing_ns / done / 1e9 if done else 0.01
        wait = min(5.0, max(0.01, each * box.size / box.concurrency))
        text = f"{self.name} is full: {box.running} turns run and {box.waiting} wait"
        if box.is_stuck:
            text = (
                f"{self.name} is stuck: {box.held} threads run for calls that are over"
            )
        full = ResourceExhausted(text, retry_after=wait)
        self._failures.answer(self._outside(message), message, full.before(self.name))

    def _send_error(self, message: Message, data: bytes, header_block: bytes) -> None:
        self.bus.publish(message.reply, data, "", header_block)
