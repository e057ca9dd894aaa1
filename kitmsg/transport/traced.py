"""Client spans: around a call, or from the opening of a stream to its end.

A span is that of the whole call where an outer layer began it (`around`): then retries and
hedges are events of it, and each try's turn is a child of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from kitmsg.context import Context
from kitmsg.errors import Cancelled, Code, KitError, code_of
from kitmsg.tracing import tracer
from kitmsg.tracing.conventions import bus_attributes
from kitmsg.wire import B3, ERROR, SPANS, TRACE, TRACE_BACK

if TYPE_CHECKING:
    from kitmsg.endpoints import Endpoint
    from kitmsg.message import Message
    from kitmsg.tracing.seam import Operation, Span
    from kitmsg.transport.caller import Caller
    from kitmsg.transport.stream import Stream

__all__ = ["around", "finish", "traced_ask", "traced_open", "traced_publish"]

_NAMES: Final = frozenset((*TRACE, *B3))
_SPELLED: Final = _NAMES | {name.title() for name in _NAMES}
_ASK: Final = f"{TRACE_BACK}: 1\r\n".encode()
_NO_HEADERS: Final[Mapping[str, str]] = {}


def finish(span: Span, error: BaseException) -> None:
    """End the span of a call that failed."""
    if isinstance(error, Exception):
        reply = error.reply if isinstance(error, KitError) else None
        is_told = reply is not None and ERROR in reply.headers
        is_business = is_told or not isinstance(error, KitError)
        span.finish(code_of(error), str(error), is_business=is_business)
    else:  # the caller gave up
        span.finish(Code.CANCELLED)


def _apart(ctx: Context) -> tuple[Context, Mapping[str, str]]:
    """Return a context without the trace in its metadata, and that."""
    if not ctx.metadata or _SPELLED.isdisjoint(ctx.metadata):
        return ctx, _NO_HEADERS
    given = {n.lower(): v for n, v in ctx.metadata.items() if n.lower() in _NAMES}
    rest = {n: v for n, v in ctx.metadata.items() if n.lower() not in _NAMES}
    return ctx.evolve(metadata=rest), given


def traced_ask(caller: Caller, operation: Operation) -> Callable[..., Awaitable[Any]]:
    """Return `caller.ask` with a span around each call."""
    ask, unsampled = caller.ask, operation.unsampled
    brief, begin = _brief(ask, operation), operation.brief
    # A service of others' gets the ids of a trace, also of one that is not kept.
    is_bare, throttle = caller.is_bare and caller.is_kit, caller.throttle

    def traced(
        ctx: Context, request: Any, encode: Any = None, decode: Any = None
    ) -> Awaitable[Any]:
        if not ctx.metadata or _SPELLED.isdisjoint(ctx.metadata):
            if is_bare and throttle.is_quiet:
                found = begin()
                if found.__class__ is bytes:
                    return ask(ctx, request, encode, decode, found)
                if found is not None:
                    return brief(*found, ctx, request, encode, decode)
            elif line := unsampled():
                return ask(ctx, request, encode, decode, line)
        return spanned(ctx, request, encode, decode)

    async def spanned(ctx: Context, request: Any, encode: Any, decode: Any) -> Any:
        ctx, given = _apart(ctx)
        span = operation.current()
        if span is not None:  # an outer layer's, over several tries
            return await _gathering(ask, span, ctx, request, encode, decode)
        span = operation.begin(given)
        token = span.enter()
        try:
            result = await _gathering(ask, span, ctx, request, encode, decode)
        except BaseException as exc:
            finish(span, exc)
            raise
        finally:
            span.leave(token)
        span.finish()
        return result

    return traced


def _brief(
    ask: Callable[..., Awaitable[Any]], operation: Operation
) -> Callable[..., Awaitable[Any]]:
    """Return `ask` with a span that becomes an object only if the call fails."""

    async def brief(
        line: bytes, span: Any, ctx: Context, request: Any, encode: Any, decode: Any
    ) -> Any:
        try:
            result = await ask(ctx, request, encode, decode, line)
        except BaseException as exc:
            finish(operation.whole(span), exc)
            raise
        operation.end(span)
        return result

    return brief


def _gathering(
    ask: Callable[..., Awaitable[Any]],
    span: Span,
    ctx: Context,
    request: Any,
    encode: Any,
    decode: Any,
) -> Awaitable[Any]:
    """Return a call as a child of `span`, whose spans come back if they are wanted."""
    if not span.gathers:
        return ask(ctx, request, encode, decode, span.line())
    return _gathered(ask, span, ctx, request, encode, decode)


async def _gathered(
    ask: Callable[..., Awaitable[Any]],
    span: Span,
    ctx: Context,
    request: Any,
    encode: Any,
    decode: Any,
) -> Any:
    def read(ctx: Context, reply: Message) -> Any:
        take(reply)
        return reply if decode is None else decode(ctx, reply)

    def take(reply: Message | None) -> None:
        if reply is not None and reply.header_block:
            span.gather(reply.headers.get(SPANS, ""))

    try:
        return await ask(ctx, request, encode, read, _ASK + span.line())
    except KitError as exc:
        take(exc.reply)
        raise


def traced_open(
    caller: Caller, operation: Operation
) -> Callable[[Context, bytes], Awaitable[Stream]]:
    """Return `caller.open` with a span from each opening to the end of the stream."""
    open_ = caller.open

    async def traced(ctx: Context, data: bytes) -> Stream:
        ctx, given = _apart(ctx)
        span = operation.begin(given)
        token = span.enter()
        try:
            line = _ASK + span.line() if span.gathers else span.line()
            stream = await open_(ctx, data, line)
        except BaseException as exc:
            finish(span, exc)
            raise
        finally:
            span.leave(token)
        span.happened("stream.begin", {})
        count, stream.on_end = stream.on_end, lambda: _ended(span, stream, count)
        if not stream.is_open:
            _ended(span, stream)
        return stream

    return traced


def traced_publish(
    caller: Caller, operation: Operation
) -> Callable[[Context, bytes], None]:
    """Return `caller.publish` with a span, which ends as the request leaves."""
    publish = caller.publish

    def traced(ctx: Context, data: bytes) -> None:
        ctx, given = _apart(ctx)
        span = operation.begin(given)
        try:
            publish(ctx, data, span.line())
        except BaseException as exc:
            finish(span, exc)
            raise
        span.finish()

    return traced


def _ended(span: Span, stream: Stream, count: Callable[[], None] | None = None) -> None:
    """End the span of a stream, and count it."""
    if count is not None:
        count()
    span.happened("stream.end", {"kitmsg.stream.items": stream.moved})
    if span.gathers and stream.end is not None:
        span.gather(stream.end.headers.get(SPANS, ""))
    error = stream.error
    if error is None:
        span.finish()
        return
    is_business = stream.end is not None and ERROR in stream.end.headers
    is_ours = isinstance(error, Cancelled) and stream.end is None
    code = Code.CANCELLED if is_ours else error.code
    span.finish(code, str(error), is_business=is_business)


def around(call: Endpoint[Any, Any], name: str, subject: str) -> Endpoint[Any, Any]:
    """Put one span around all that a call does: its middlewares, its retries, its hedges.

    Not for streams, whose spans outlive their opening.

    Args:
        call: With its middlewares.
        name: Dotted name of the endpoint.
        subject: Where it is called.
    """
    found = tracer()
    if found is None:
        return call
    operation = found.client(name, bus_attributes(name, subject))

    async def traced(ctx: Context, request: Any) -> Any:
        ctx, given = _apart(ctx)
        span = operation.begin(given)
        token = span.enter(is_call=True)
        try:
            result = await call(ctx, request)
        except BaseException as exc:
            finish(span, exc)
            raise
        finally:
            span.leave(token)
        span.finish()
        return result

    return traced
