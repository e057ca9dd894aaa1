"""A subject whose endpoint streams: items in, items out, or both.

A stream runs in a task of its own, beside the mailbox: it may last for days and wait for
most of them.  Phases, in Go kit's order: before, decode, endpoint, then decode or encode
for each item, finalizer.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from kitmsg.bus import Bus
from kitmsg.context import Context, enter
from kitmsg.endpoints import Endpoint
from kitmsg.errors import (
    Cancelled,
    Code,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    KitError,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from kitmsg.message import Message
from kitmsg.schema.calls import StreamRequest
from kitmsg.threads import enter_place
from kitmsg.tracing.seam import TurnSpan
from kitmsg.transport.lateness import NOISE
from kitmsg.transport.opening import accept
from kitmsg.transport.replies import error_code
from kitmsg.transport.server import CancelledWithin, Server
from kitmsg.transport.transfer import is_elsewhere
from kitmsg.transport.typed import Decode, Encode
from kitmsg.wire import CALLER, STREAM, timeout_ms

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from kitmsg.transport.stream import Stream

__all__ = ["MAX_STREAMS", "StreamServer", "sending"]

_log = logging.getLogger("kitmsg.service")

MAX_STREAMS: Final = 10_000
"""Streams of one service instance at once."""

_QUIET_SECONDS: Final = 1.0
_UNREAD_SECONDS: Final = 5.0  # what a network keeps of small items is read in lumps
_LOOK_SECONDS: Final = 0.25
_FULL_SECONDS: Final = 1.0
_FETCH_SECONDS: Final = 10.0


class _Run:
    """One stream that is served."""

    __slots__ = (
        "ctx",
        "cut",
        "has_begun",
        "message",
        "read_at",
        "stream",
        "task",
        "timer",
    )

    def __init__(self, message: Message, ctx: Context) -> None:
        self.message = message
        self.ctx = ctx
        self.stream: Stream | None = None
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.has_begun = False
        self.cut: Code | None = None  # why it was cut off
        # When it was read, if its caller was not known well then; see `Lateness`.
        self.read_at: float | None = None

    def begin(self) -> None:
        """Note that the task runs.

        Raises:
            CancelledError: The stream was cut off before.
        """
        self.has_begun = True
        if self.cut is not None:
            raise asyncio.CancelledError

    def stop(self) -> None:
        """Cancel the task.  One that did not begin yet would never know; see `begin`."""
        if self.has_begun and self.task is not None:
            self.task.cancel()


class _Moved(NamedTuple):
    """Progress of a stream that is drained: its last position, and the time of it."""

    stream: Stream | None
    items: int
    granted: int
    since: float


def _idle(run: _Run, seen: dict[_Run, _Moved], now: float) -> float:
    """Return for how many seconds a stream has not moved; asks it to say so finely."""
    stream, before = run.stream, seen.get(run)
    if stream is not None and (before is None or before.stream is None):
        stream.drain()
    items, granted = (0, 0) if stream is None else (stream.moved, stream.granted)
    if before is not None and before[:3] == (stream, items, granted):
        return now - before.since
    seen[run] = _Moved(stream, items, granted, now)
    return 0.0


def _patience(run: _Run) -> float:
    """Return the seconds for which a stream may stand still before it is cut off."""
    is_unread = run.stream is not None and run.stream.waits_for_reader
    return _UNREAD_SECONDS if is_unread else _QUIET_SECONDS


class StreamServer(Server):
    """Serves `subject` by an `endpoint` that takes a `StreamRequest`.

    Args:
        bus: What carries the messages.
        subject: Where streams are asked for.
        endpoint: What to do with them.  One that gives items returns an asynchronous
            iterator, or has sent them; see `sending`.
        decode_item: Makes an item of a message; None where the caller streams nothing.
        gives_items: Whether the endpoint gives items, not one result.
        max_streams: Most streams at once; more are refused.
        options: As for `Server`; `after` may add headers to the end.  Without `timeout`,
            and without a word of the caller, a stream may last for ever.
    """

    def __init__(
        self,
        bus: Bus,
        subject: str,
        endpoint: Endpoint[Any, Any],
        *,
        decode: Decode,
        encode: Encode,
        decode_item: Decode | None,
        gives_items: bool,
        max_streams: int = MAX_STREAMS,
        **options: Any,
    ) -> None:
        super().__init__(
            bus, subject, endpoint, decode=decode, encode=encode, **options
        )
        self.max_streams = max_streams
        self._decode_item = decode_item
        self._gives_items = gives_items
        self._runs: dict[str, _Run] = {}
        self._is_closing = False

    def receive(self, message: Message) -> None:
        """Begin a stream, or answer why not."""
        if message.reply and not self.bus.inboxes.takes(message.reply):
            return
        now = asyncio.get_running_loop().time()
        late = self._lateness.of(message.reply, now) if message.reply else 0.0
        is_new = now - self._lateness.learned <= NOISE and not late
        try:
            left = self._left(message)
        except KitError as exc:
            self._refuse(message, exc)
            return
        if left is not None and left <= late and self._ends_late:
            self._came_late(message, late)
            return
        deadline = None
        if left is not None and self._ends_late:
            deadline = now + left - late
        if is_elsewhere(message.header_block):
            whole = functools.partial(self._begin, deadline, None)
            seconds = _FETCH_SECONDS if left is None else left - late
            self.intake.fetcher.start(message, seconds, whole, self._refuse)
        else:
            self._begin(deadline, now if is_new else None, message)

    def _begin(
        self, deadline: float | None, read_at: float | None, message: Message
    ) -> None:
        """Begin a stream whose request is here; see `_Run` for `read_at`."""
        try:
            run = self._admit(message)
        except KitError as exc:
            self._refuse(message, exc)
            return
        run.read_at = read_at
        if deadline is not None:
            self._end_at(run, deadline)
        self._runs[message.reply] = run
        run.task = asyncio.get_running_loop().create_task(self._run(run))

    def _left(self, message: Message) -> float | None:
        """Return the seconds that a stream may take; None for as long as it likes."""
        said = timeout_ms(message)
        if said is None:
            return self.timeout
        return said / 1000 if self.timeout is None else min(said / 1000, self.timeout)

    def _end_at(self, run: _Run, deadline: float) -> None:
        if run.timer is not None:
            run.timer.cancel()
        run.ctx.deadline = deadline
        run.timer = asyncio.get_running_loop().call_at(
            deadline, self._cut, run, Code.DEADLINE_EXCEEDED
        )

    def _admit(self, message: Message) -> _Run:
        if message.headers.get(STREAM) != "open" or not message.reply:
            raise FailedPrecondition(
                f"{self.name} is a stream: ask for it with the header {STREAM}: open"
            )
        if self._is_closing:
            raise Unavailable(f"{self.name} is stopping")
        if message.reply in self._runs:
            raise FailedPrecondition(
                f"{self.name} has a stream with this reply subject; take another"
            )
        if len(self._runs) >= self.max_streams:
            self.stats.shed += 1
            raise ResourceExhausted(
                f"{self.name} is full: {self.max_streams} streams run",
                retry_after=_FULL_SECONDS,
            )
        ctx = Context(endpoint=self.name, message=message)
        ctx.propagates = self._propagates
        return _Run(message, ctx)

    def in_hand(self) -> tuple[int, int]:
        """Return how many streams run; none ever waits."""
        return len(self._runs), 0

    def cancel(self, reply: str) -> bool:
        """End the stream that was asked for with this reply subject."""
        run = self._runs.get(reply)
        if run is None:
            return False
        self._cut(run, Code.CANCELLED)
        return True

    def replace(self, endpoint: Endpoint[Any, Any]) -> None:
        """Serve by another endpoint from now on, and cut off the streams that run."""
        super().replace(endpoint)
        for run in list(self._runs.values()):
            self._cut(run, Code.UNAVAILABLE)

    async def wind_down(self, timeout: float) -> None:
        """Take no more, and let streams come to their end in `timeout` s; cut off the rest.

        One that gives items is cut off when it is idle, that is, when for a second no
        item was given, taken or acknowledged: it waits for something to happen, and would
        keep its instance here for ever.  Where a reader is what it waits for, it has 5 s.
        """
        self._is_closing = True
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        seen: dict[_Run, _Moved] = {}
        while self._runs and loop.time() < end:
            await asyncio.sleep(min(_LOOK_SECONDS, max(0.0, end - loop.time())))
            for run in list(self._runs.values()):
                idle = _idle(run, seen, loop.time())
                if self._gives_items and idle >= _patience(run):
                    self._cut(run, Code.UNAVAILABLE)
        tasks = [run.task for run in self._runs.values() if run.task is not None]
        for run in list(self._runs.values()):
            self._cut(run, Code.UNAVAILABLE)
        if tasks:
            await asyncio.wait(tasks, timeout=_FULL_SECONDS)
        for run in self._runs.values():
            _log.error("%s swallows CancelledError and goes on", run.ctx.endpoint)

    async def _run(self, run: _Run) -> None:
        """Serve one stream, from the request to the end."""
        ctx, message = run.ctx, run.message
        started = perf_counter_ns()
        enter(ctx)
        enter_place(self.intake.beside)
        error: BaseException | None = None
        span = None
        if self._trace is not None:
            span = ctx._span = self._trace(message, 0.0)  # noqa: SLF001
        try:
            self._judge_again(run)
            run.begin()
            await self._serve(run)
        except BaseException as exc:
            error = exc
            if self._broke(run, exc):
                raise
        finally:
            if run.timer is not None:
                run.timer.cancel()
            self._runs.pop(message.reply, None)
            if self._counts:
                self._count_run(run, perf_counter_ns() - started, error)
            if span is not None:
                self._finish_run(span, run, error)
            for finalizer in self._finalizer:
                finalizer(ctx, message, error)

    def _count_run(self, run: _Run, took_ns: int, error: BaseException | None) -> None:
        """Count a stream that is over, and how it ended."""
        code = run.cut
        if code is None and isinstance(error, asyncio.CancelledError):
            code = Code.UNAVAILABLE if _is_cancelled() else Code.INTERNAL
        elif code is None and error is not None:
            code = error_code(error, self._declared)
        if code is None:
            self.stats.observe(took_ns, run.message)
        else:
            self.stats.observe(took_ns)
            self.stats.broke(code.value, took_ns, run.message)

    def _finish_run(
        self, span: TurnSpan, run: _Run, error: BaseException | None
    ) -> None:
        """End the span of a stream."""
        moved = 0 if run.stream is None else run.stream.moved
        span.happened("stream.end", {"kitmsg.stream.items": moved})
        if run.cut is not None:
            span.finish(run.cut, "the stream was cut off")
        elif isinstance(error, asyncio.CancelledError):
            code = Code.UNAVAILABLE if _is_cancelled() else Code.INTERNAL
            span.finish(code, "its task was cancelled")
        else:
            self._finish(span, error)

    def _judge_again(self, run: _Run) -> None:
        """Take off what is known now of how long the request of a new caller was held.

        A stream whose caller has given up is cut off, without a word: nobody would hear it.
        """
        deadline = run.ctx.deadline
        if run.read_at is None or deadline is None or run.cut is not None:
            return
        late = self._lateness.of(run.message.reply, run.read_at)
        if not late:
            return
        self._end_at(run, deadline - late)
        if deadline - late <= asyncio.get_running_loop().time():
            self.stats.expired += 1
            run.cut = Code.DEADLINE_EXCEEDED

    def _broke(self, run: _Run, error: BaseException) -> bool:
        """Tell the caller of a stream that ended with an error.

        One that was cut off has been told of.

        Returns:
            Whether the error is meant for the task, or the process, too.
        """
        if isinstance(error, asyncio.CancelledError):
            if run.cut is not None:
                return False
            if _is_cancelled():
                self._end(run, Code.UNAVAILABLE)
                return True
            error = CancelledWithin.by(error)
        if run.cut is None:
            self._failures.failed(run.ctx, run.message, error)
        else:
            self._failures.note(run.ctx, run.message, error)
        return isinstance(error, (GeneratorExit, KeyboardInterrupt))

    async def _serve(self, run: _Run) -> None:
        ctx, message = run.ctx, run.message
        ctx.principal = await self._verify(message)
        for before in self._before:
            before(ctx, message)
        request = self._decode(ctx, message)
        if self._counts:
            self._note_caller(message.headers.get(CALLER, ""))
        decode_item = self._decode_item
        try:
            stream = run.stream = accept(
                self.bus, message, self.name, takes_items=decode_item is not None
            )
        except PermissionDenied as exc:  # this service's, not the caller's
            raise Internal(f"{self.name} may not stream on this NATS server") from exc
        stream.on_cancel = functools.partial(self._cut, run)
        if ctx._span is not None:  # noqa: SLF001
            ctx._span.happened("stream.begin", {})  # noqa: SLF001
        asked = StreamRequest(request, None)
        if decode_item is not None:
            asked.items = _Items(ctx, stream, decode_item, asked)
        if self._gives_items:
            asked.send = functools.partial(self._send_all, run, stream, asked)
        response = await self.endpoint(ctx, asked)
        if not self._gives_items:
            await self._send(stream, self._encode(ctx, response))
        elif response is not None:
            await self._send_all(run, stream, asked, response)
        stream.finish_with(b"", self._reply_headers(ctx))

    async def _send_all(
        self,
        run: _Run,
        stream: Stream,
        asked: StreamRequest,
        items: AsyncIterator[Any],
    ) -> None:
        """Send what the endpoint gives, to its end.  Hot path: runs for every item."""
        ctx, encode = run.ctx, self._encode
        try:
            async for item in items:
                asked.has_begun = True
                data = encode(ctx, item)
                try:
                    is_sent = stream.push(data)
                except InvalidArgument as exc:
                    raise self._too_long(stream, data, exc) from exc
                if not is_sent:
                    await self._send(stream, data)
        finally:
            await _close(items)

    async def _send(self, stream: Stream, data: bytes) -> None:
        try:
            await stream.send(data)
        except InvalidArgument as exc:
            raise self._too_long(stream, data, exc) from exc

    def _too_long(self, stream: Stream, data: bytes, error: KitError) -> KitError:
        """Return what to say of an item that the bus refused."""
        if not stream.is_open:
            return error
        return Internal(
            f"an item of {self.name} is {len(data)} bytes; the bus carries"
            f" {self.bus.max_payload}"
        )

    def _cut(self, run: _Run, why: Code) -> None:
        """End a stream from outside: the caller is told at once, then the endpoint."""
        if run.cut is None:
            self._end(run, why)
            run.stop()

    def _end(self, run: _Run, why: Code) -> None:
        """Tell the caller of a stream that it is over, unless it knows."""
        run.cut = why
        self.stats.cancelled += 1
        error: KitError = Cancelled(f"{self.name} was cancelled")
        if run.stream is not None and run.stream.error is not None:
            error = run.stream.error
        elif why is Code.UNAVAILABLE:
            error = Unavailable(f"{self.name} is stopping")
        elif why is Code.DEADLINE_EXCEEDED:
            error = DeadlineExceeded(f"{self.name} took too long")
        self._failures.answer(run.ctx, run.message, error)

    def _send_error(self, message: Message, data: bytes, header_block: bytes) -> None:
        """Send an error: as the end of the stream, if it was taken."""
        run = self._runs.get(message.reply)
        if run is None or run.message is not message or run.stream is None:
            super()._send_error(message, data, header_block)
        else:
            over = Cancelled(f"the stream of {self.name} is over")
            run.stream.finish_with(data, header_block, over)


class _Items:
    """Decoded items of a streamed request; an error names its item's number, from 1."""

    def __init__(
        self, ctx: Context, stream: Stream, decode: Decode, asked: StreamRequest
    ) -> None:
        self._asked = asked
        self._ctx = ctx
        self._stream = stream
        self._decode = decode
        self._taken = 0

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        message = await self._stream.__anext__()
        self._asked.has_begun = True
        self._taken += 1
        try:
            return self._decode(self._ctx, message)
        except InvalidArgument as exc:
            problem = str(exc).removeprefix("the request: ")
            raise InvalidArgument(
                f"item {self._taken} does not fit: {problem}", field=exc.field
            ) from exc


def sending(call: Endpoint[Any, Any]) -> Endpoint[Any, Any]:
    """Have an endpoint that gives items send them before it returns, and return None.

    So the middlewares around it see the whole stream: how long it takes and how it ends.
    """

    async def send(ctx: Context, request: StreamRequest) -> Any:
        items = await call(ctx, request)
        return items if request.send is None else await request.send(items)

    return send


def _is_cancelled() -> bool:
    """Tell whether somebody cancelled the task that runs."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _close(items: Any) -> None:
    """Close an iterator that can be closed: a generator runs its ``finally`` then."""
    close: Callable[[], Any] | None = getattr(items, "aclose", None)
    if close is not None:
        await close()
