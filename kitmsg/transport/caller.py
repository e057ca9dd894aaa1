"""One call, bytes in and out: everything that a call promises, once.

`Caller.ask` and `Caller.open` are endpoints (`async (Context, bytes) -> Message` or
`Stream`), so middlewares stand around them.  Both turn what is left until the deadline
into a header, pass on request id, trace, caller and metadata, carry bodies of any length
either way, say who is there when nobody is, and raise the errors that replies tell of.
What comes before and after, objects to bytes, is the clients' and the gateways'.

Hot path: `ask` runs for every call and is flat on purpose.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, get_running_loop
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter  # uvloop's own clock ticks in whole milliseconds
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from kitmsg.bus import Bus
from kitmsg.codec import MSGPACK
from kitmsg.context import Context
from kitmsg.errors import (
    DeadlineExceeded,
    Disconnected,
    InvalidArgument,
    KitError,
    NoResponders,
    ResourceExhausted,
)
from kitmsg.message import Message, check_subject, encode_headers
from kitmsg.metrics.clients import CLIENTS, CallCounts
from kitmsg.metrics.stats import BOUNDS_SECONDS
from kitmsg.middleware.adaptive_breaker import (
    Throttle,
    Unthrottled,
    is_overload,
    throttled_error,
)
from kitmsg.tracing import tracer
from kitmsg.tracing.conventions import bus_attributes
from kitmsg.transport import transfer
from kitmsg.transport.counted import count_failure, count_stream
from kitmsg.transport.opening import open_stream
from kitmsg.transport.replies import Declared, decode_error
from kitmsg.transport.stream import Stream
from kitmsg.transport.traced import traced_ask, traced_open, traced_publish
from kitmsg.transport.typed import Decode, Encode
from kitmsg.wire import (
    BEGAN,
    CALLER,
    MAX_TIMEOUT,
    OWN,
    REQUEST_ID,
    TIMEOUT,
    UNKEPT,
    end_call,
    milliseconds,
    plain_headers,
    start_call,
    traced,
)

if TYPE_CHECKING:
    from kitmsg.bus.asks import Ask

__all__ = ["DEFAULT_TIMEOUT", "After", "Before", "Caller", "ErrorDecoder", "Hint"]

DEFAULT_TIMEOUT: Final = 5.0
_FULL_SECONDS: Final = (
    0.1  # until an instance that has left its queue group may be back
)
"""Longest call, in seconds, unless somebody says otherwise."""

Before: TypeAlias = Callable[["Context", dict[str, str]], None]
"""May add headers; raising aborts the call."""

_OWN: Final = frozenset(OWN)
_STATUS_LINE: Final = len(b"NATS/1.0")
_END: Final = len(b"\r\n\r\n")

After: TypeAlias = Callable[["Context", Message], None]
"""Sees the reply before it is decoded, errors too."""

ErrorDecoder: TypeAlias = Callable[["Context", Message], Exception | None]
"""Returns the error that a reply tells of; None for a success."""

Hint: TypeAlias = Callable[[str], Awaitable[str]]
"""Takes a subject nobody serves; returns what to say about it, or ""."""


class Caller:
    """Calls of one endpoint at `subject`, in bytes.

    Args:
        bus: What carries the messages.
        subject: Where requests go.
        name: Dotted name in errors; the subject by default.
        timeout: Longest wait for the reply to an ask, in seconds; a nearer deadline of the
            context wins.
        open_timeout: Longest wait for somebody to take a stream, in seconds; by default
            `timeout`.
        lifetime: Seconds that a whole stream may take; None for as long as it likes.  A
            nearer deadline of the context wins.
        before: Run before sending; may add headers.
        after: Run on the reply, errors too.
        raises: Exception classes that the endpoint declares; they are raised as such.
        error_decoder: Finds the error in a reply; by default as `docs/protocol.md` says.
        hint: Asked for a helpful word when nobody serves `subject`.
        is_kit: Whether kitmsg serves it, so that requests may be longer than a message.
        max_bytes: Longest request, and longest reply.
        breaker: Whether a service that cannot keep up is sent only as many calls as it
            answers, and a few to try it (`kitmsg.middleware.adaptive_breaker`).
        counts: Whether its calls are shown as ``kitmsg_client_...``; a gateway's own count
            as the gateway's.

    Attributes:
        counts: The calls of the endpoint.

    Raises:
        ValueError: `timeout` is not positive, or no number that `Kit-Timeout` takes.
        InvalidArgument: `subject` is malformed.
    """

    def __init__(
        self,
        bus: Bus,
        subject: str,
        *,
        name: str = "",
        timeout: float = DEFAULT_TIMEOUT,
        open_timeout: float | None = None,
        lifetime: float | None = None,
        before: Sequence[Before] = (),
        after: Sequence[After] = (),
        raises: Sequence[type[Exception]] = (),
        error_decoder: ErrorDecoder | None = None,
        hint: Hint | None = None,
        is_kit: bool = True,
        max_bytes: int = transfer.MAX_BYTES,
        breaker: bool = True,
        counts: bool = True,
    ) -> None:
        if not 0 < timeout < MAX_TIMEOUT:
            raise ValueError(
                f"timeout must be positive seconds under {MAX_TIMEOUT:g}, not {timeout!r}"
            )
        self.bus, self._ask = bus, bus.ask
        self.subject = check_subject(subject)
        self.name = name or subject
        self.timeout, self.max_bytes = timeout, max_bytes
        self._open_timeout = timeout if open_timeout is None else open_timeout
        self._lifetime = lifetime
        self._before, self._after = tuple(before), tuple(after)
        self.is_bare = not before  # nobody adds headers
        self._declared = {cls.__name__: Declared.of(cls) for cls in raises}
        self._error_decoder = error_decoder or self._default_error
        self._reads_body = error_decoder is not None
        plain = self._plain = plain_headers(milliseconds(timeout))
        self._plain_unkept = traced(plain, UNKEPT)
        # Most calls outside a turn have the headers of the one before.
        self._last_metadata: dict[str, str] = {}
        self._last_block = b""
        # Most calls in a turn, and those of a gateway, differ in request id only: what
        # stands before it in the last block, and what that was made of.
        self._last_start = b""
        self._last_shared: tuple[int, str, dict[str, str]] | None = None
        self._hint = hint
        self.is_kit = is_kit
        # The loop of the last ask; a bus in memory may outlive it.
        self._loop: AbstractEventLoop | None = None
        self.throttle = Throttle() if breaker else Unthrottled()
        self.counts = CLIENTS.of(self.name) if counts else CallCounts()
        found = tracer()
        if found is not None:
            operation = found.client(self.name, bus_attributes(self.name, subject))
            self.ask = traced_ask(self, operation)  # type: ignore[method-assign,assignment]
            self.open = traced_open(self, operation)  # type: ignore[method-assign,assignment]
            self.publish = traced_publish(self, operation)  # type: ignore[method-assign,assignment]

    async def ask(  # noqa: PLR0912, PLR0915
        self,
        ctx: Context,
        request: Any,
        encode: Encode | None = None,
        decode: Decode | None = None,
        trace: bytes = b"",
    ) -> Any:
        """Send a request and return its reply, which is no error.

        Args:
            ctx: Facts about the call.
            request: Its bytes; with `encode`, what that makes bytes of.
            encode: Makes the payload of a request.
            decode: Makes the result of the reply, which is a `Message` without it.
            trace: Headers of its trace, and a block's end; see `kitmsg.wire.traced`.

        Raises:
            NoResponders: Nobody serves the subject.
            DeadlineExceeded: No reply by the deadline, or none is left.
            DataLoss: The reply cannot be read.
            Unavailable: The service failed too often lately, and the call was not sent.
            Exception: The error that the reply tells of, or one of `Bus.request`.
        """
        counts = self.counts
        counts.begun += 1
        started = perf_counter()
        asked: Ask | None = None
        try:
            data: bytes = request if encode is None else encode(ctx, request)
            throttle = self.throttle
            left, deadline = self.timeout, ctx.deadline
            # `ctx.caller` is `_caller`, or stands in its message.
            is_bare = self.is_bare and not (ctx._caller or ctx.message)  # noqa: SLF001
            if is_bare and deadline is None and throttle.is_quiet:
                block = self._steady(ctx.metadata) if ctx.metadata else self._plain
            else:
                now = self._time()
                if not throttle.is_quiet:
                    self._enter(throttle, now)
                if deadline is not None and deadline - now < left:
                    left = deadline - now
                    if left <= 0:
                        self._check_left(left)
                block = self._headers(ctx, left)
            if trace is UNKEPT and block is self._plain:
                block = self._plain_unkept
            elif trace:
                block = block[:-2] + trace
            try:
                asked = self._ask(self.subject, data, left, block)
                ends, reply = asked.expires, await asked.future
            except NoResponders as exc:
                raise await self._unheard(exc) from exc
            except (Disconnected, ResourceExhausted) as exc:  # of the bus itself
                self._unsent(exc)
                raise
            except DeadlineExceeded as exc:
                self._judge(exc)
                raise
            except InvalidArgument:
                if len(data) + len(block) <= self.bus.max_payload or not self.is_kit:
                    raise
                ends = self._time() + left
                reply = await self._ask_long(data, left, block)
            if reply.header_block and transfer.is_elsewhere(reply.header_block):
                left = ends - self._time()  # one deadline over all of it
                what, most = "the reply", self.max_bytes
                reply = await transfer.fetch(self.bus, reply, left, what, most)
            if self._after:
                for hook in self._after:
                    hook(ctx, reply)
            if reply.header_block or self._reads_body:
                error = self._error_decoder(ctx, reply)
                if error is not None:
                    self._judge(error)
                    raise self._told(reply, error)  # noqa: TRY301  # no call more here
            if throttle.is_quiet:
                throttle.good += 1
            else:
                throttle.succeeded(self._time())
            result = reply if decode is None else decode(ctx, reply)
        except BaseException as exc:
            if asked is not None:
                self.bus.give_up(asked, exc)
            count_failure(counts, exc, started, self._declared)
            raise
        took, well = perf_counter() - started, counts.well
        well.buckets[bisect_left(BOUNDS_SECONDS, took)] += 1
        well.seconds += took
        return result

    def _time(self) -> float:
        """Return the time of the running loop."""
        loop = self._loop
        # `get_running_loop` asks the system for the process: 1 us and more on Python 3.11.
        if loop is None or not loop.is_running():
            loop = self._loop = get_running_loop()
        return loop.time()

    async def open(self, ctx: Context, data: bytes, trace: bytes = b"") -> Stream:
        """Ask for a stream; returns when a service took it.

        For `trace` see `ask`.

        Its iteration raises what ends it; `error_in` reads the endpoint's own error out of
        its last message.

        Raises:
            NoResponders: Nobody serves the subject.
            DeadlineExceeded: Nobody took it in time, or no time is left.
            KitError: The service refused; see `open_stream` for the rest.
        """
        self.counts.begun += 1
        started = perf_counter()
        try:
            stream = await self._open(ctx, data, trace)
        except BaseException as exc:
            count_failure(self.counts, exc, started, self._declared)
            raise
        count_stream(self.counts, stream, started)
        return stream

    async def _open(self, ctx: Context, data: bytes, trace: bytes) -> Stream:
        self._enter(self.throttle, get_running_loop().time())
        seconds = self._lifetime
        if ctx.deadline is not None:
            left = ctx.deadline - get_running_loop().time()
            self._check_left(left)
            seconds = left if seconds is None else min(left, seconds)
        if seconds is not None and seconds >= MAX_TIMEOUT:
            seconds = None
        block = self._headers(ctx, None)
        if trace:
            block = traced(block, trace)
        opener = transfer.open_large if self.is_kit else open_stream
        try:
            stream = await opener(
                self.bus,
                self.subject,
                data,
                block,
                timeout=seconds,
                open_timeout=self._open_timeout,
            )
        except NoResponders as exc:
            raise await self._unheard(exc) from exc
        except KitError as exc:
            self._unopened(exc)
            raise
        self.throttle.succeeded(get_running_loop().time())
        return stream

    def _unopened(self, error: KitError) -> None:
        if error.reply is None and isinstance(error, Disconnected | ResourceExhausted):
            self._unsent(error)  # of the bus itself
        else:
            self._judge(error)

    def publish(self, ctx: Context, data: bytes, trace: bytes = b"") -> None:
        """Send a request whose reply nobody waits for.  At most once.

        For `trace` see `ask`.

        Raises:
            DeadlineExceeded: No time is left.
            KitError: As `Bus.publish`.
        """
        left = self.timeout
        if ctx.deadline is not None:
            left = self._until(ctx.deadline - get_running_loop().time())
        block = self._headers(ctx, left)
        if trace:
            block = block[:-2] + trace
        self.bus.publish(self.subject, data, "", block)

    def error_in(self, ctx: Context, message: Message) -> Exception | None:
        """Return the error that a reply, or the end of a stream, tells of; else None."""
        error = self._error_decoder(ctx, message)
        return None if error is None else self._told(message, error)

    def _enter(self, throttle: Throttle, now: float) -> None:
        """Let a call through to a service that failed lately.

        Raises:
            Unavailable: It is one too many for what the service can answer.
        """
        wait = throttle.wait(now)
        if wait:
            throttle.refused(now)
            raise throttled_error(self.name, wait)

    def _judge(self, error: Exception) -> None:
        """Count an error for or against the service."""
        now = get_running_loop().time()
        if is_overload(error):
            self.throttle.failed(now)
        else:
            self.throttle.succeeded(now)

    def _told(self, reply: Message, error: Exception) -> Exception:
        """Return the error of a reply, marked where the work never began."""
        if isinstance(error, KitError) and reply.header_block:
            is_refusal = reply.headers.get(BEGAN) == "no"
            error.refused = self.name if is_refusal else ""
        return error

    async def _ask_long(self, data: bytes, left: float, block: bytes) -> Message:
        """Ask with a request that is too long for a message; fails as `ask` does."""
        bus, subject, most = self.bus, self.subject, self.max_bytes
        try:
            return await transfer.ask(bus, subject, data, left, block, max_bytes=most)
        except NoResponders as exc:
            raise await self._unheard(exc) from exc
        except (Disconnected, ResourceExhausted) as exc:
            self._unsent(exc)
            raise

    def _unsent(self, error: KitError) -> None:
        """Mark an error of the bus, where the request never left."""
        if not getattr(error, "sent", False):
            error.refused = self.name

    async def _unheard(self, error: NoResponders) -> KitError:
        """Return the error for a subject without subscribers, with a hint."""
        hint = await self._hint(self.subject) if self._hint else ""
        wait = _FULL_SECONDS if hint == NoResponders.KNOWN else None
        return NoResponders(self.subject, hint, retry_after=wait).before(self.name)

    def _until(self, left: float) -> float:
        """Return the seconds that a call may take, `left` of them until its deadline."""
        self._check_left(left)
        return min(left, self.timeout)

    def _check_left(self, left: float) -> None:
        if left <= 0:
            late = DeadlineExceeded(
                f"no time left to call {self.name}; it was not sent"
            )
            raise late.before(self.name)

    def _headers(self, ctx: Context, left: float | None) -> bytes:
        """Return the header block of a call with `left` seconds to go; None for no end."""
        if self.is_bare and not (ctx.metadata or ctx.caller):
            return b"" if left is None else plain_headers(milliseconds(left))
        shared, caller = dict(ctx.metadata), ctx.caller
        id_ = values = own = shared.pop(REQUEST_ID, "")
        if not _OWN.isdisjoint(shared):
            for name in OWN:
                value = shared.pop(name, "")
                if value:
                    values += value
                    own += f"\r\n{name}: {value}"
        is_safe = values.isascii() and values.isprintable()
        if left is None or not (id_ and is_safe and self.is_bare):
            return self._any_headers(ctx, left)
        made_of = (milliseconds(left), caller, shared)
        if made_of != self._last_shared:
            if TIMEOUT in shared:
                return self._any_headers(ctx, left)
            fields = {**shared, CALLER: caller} if caller else shared
            lines = encode_headers(fields)[_STATUS_LINE:-_END]
            self._last_start = start_call(made_of[0], lines)
            self._last_shared = made_of
        return end_call(self._last_start, own)

    def _any_headers(self, ctx: Context, left: float | None) -> bytes:
        """Do as `_headers`, for all that a context and hooks may bring."""
        fields = {} if left is None else {TIMEOUT: str(milliseconds(left))}
        fields.update(ctx.metadata)
        caller = ctx.caller
        if caller:
            fields[CALLER] = caller
        for hook in self._before:
            hook(ctx, fields)
        return encode_headers(fields)

    def _steady(self, metadata: dict[str, str]) -> bytes:
        """Return the header block of a call with nothing but metadata: often the last."""
        if metadata != self._last_metadata:
            fields = {TIMEOUT: str(milliseconds(self.timeout)), **metadata}
            self._last_block = encode_headers(fields)
            self._last_metadata = dict(metadata)
        return self._last_block

    def _default_error(self, ctx: Context, message: Message) -> Any:
        codec = ctx.codec or MSGPACK
        return decode_error(message, codec=codec, declared=self._declared)
