"""One call: metadata and message in, over the bus, message or status out.

Hot path: `Calls.ask` runs for every unary call and is flat on purpose.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from grpc.aio import EOF, BaseError

from kitmsg import wire
from kitmsg.codec import (
    DECODE_ERRORS,
    ENCODE_ERRORS,
    RAW,
)
from kitmsg.errors import (
    Code,
    DataLoss,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    KitError,
    ResourceExhausted,
)
from kitmsg.tracing.conventions import rpc_attributes
from kitmsg.transport.replies import reply_codec
from kitmsg.wire import ERROR
from kitmsg_gateways.edge.accesslog import AccessLog
from kitmsg_gateways.edge.admission import admit
from kitmsg_gateways.edge.answers import details
from kitmsg_gateways.edge.auth import Public
from kitmsg_gateways.edge.calls import has_begun
from kitmsg_gateways.edge.metrics import OTHER
from kitmsg_gateways.edge.spans import door, exemplary
from kitmsg_gateways.grpc import peer
from kitmsg_gateways.grpc.errors import REQUEST_ID, Failure, handler_metadata
from kitmsg_gateways.grpc.metadata import Forwarding, given_by
from kitmsg_gateways.grpc.reading import Reader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kitmsg.auth import Principal
    from kitmsg.message import Message
    from kitmsg.tracing.seam import Operation, Span
    from kitmsg.transport.stream import Stream
    from kitmsg_gateways.edge.auth import Gate
    from kitmsg_gateways.edge.budget import Budget
    from kitmsg_gateways.edge.calls import Callers
    from kitmsg_gateways.edge.metrics import Metrics
    from kitmsg_gateways.grpc.methods import Handler, Method
    from kitmsg_gateways.grpc.options import GatewayOptions

__all__ = ["Calls", "check_size", "time_left"]

_log = logging.getLogger("kitmsg_gateways.grpc")

_OK: Final = "ok"
# By whether the service streams.  To gRPC's core every client does: it reads nothing by
# itself then, which `Reader` does when there is room.
_HANDLERS: Final = {
    False: grpc.stream_unary_rpc_method_handler,
    True: grpc.stream_stream_rpc_method_handler,
}
_ServicerContext: TypeAlias = Any
_Work: TypeAlias = "Callable[[Any, _ServicerContext, Principal | None], Awaitable[Any]]"


class Calls:
    """Answers calls.

    Args:
        callers: Carries them over the bus.
        options: Limits, times and switches.
        metrics: Counts them.
        gate: Lets calls in.
        budget: Of the bytes of messages.

    Raises:
        ValueError: An option names metadata that cannot be forwarded.
    """

    def __init__(
        self,
        callers: Callers,
        options: GatewayOptions,
        metrics: Metrics,
        gate: Gate,
        budget: Budget,
    ) -> None:
        self._reader = Reader(budget, options.max_message_bytes)
        self._gate = gate
        self._public = Public(options.auth_public)
        self._callers = callers
        self._options = options
        self._metrics = metrics
        self._access = _access_log(options)
        self._forwarding = Forwarding(options)
        self._feeders: set[asyncio.Task[None]] = set()

    def handler(self, method: Method) -> Handler:
        """Return what gRPC calls for a method."""
        gives = method.gives_stream
        is_unary = not (method.takes_stream or gives)
        if is_unary:
            held = self._unary(method)
        else:
            work = self._streaming(method)
            held = self._streamed(work) if method.takes_stream else self._read(work)
        is_open = method.path in self._public
        dotted, rpc = method.endpoint.dotted, method.path
        return _HANDLERS[gives](self._counted(dotted, held, is_open, rpc))

    def refusal(self, error: Callable[[], KitError]) -> Handler:
        """Return what answers any call with an error, whatever it sends."""

        async def refuse(*_: Any) -> None:
            raise error()

        work = self._counted(OTHER, refuse)
        return grpc.stream_stream_rpc_method_handler(work)

    def guarded(
        self,
        path: str,
        answer: Callable[[Any, _ServicerContext], Awaitable[Any]],
        parse: Callable[[bytes], Any] | None = None,
        is_open: Callable[[Any], bool] = lambda _: False,
    ) -> Callable[[Any, _ServicerContext], Awaitable[Any]]:
        """Return a method of the gateway's own as one that refuses strangers.

        Args:
            path: Of the method.
            answer: Answers its calls.
            parse: Returns the request in a message; None where the client streams.
            is_open: Tells whether anybody may ask what a request asks.
        """
        is_guarded = self._gate.auth.is_on and path not in self._public

        async def one(data: Any, context: _ServicerContext, _: Principal | None) -> Any:
            request = data
            if parse is not None:
                try:
                    request = parse(data)
                except DecodeError as exc:
                    raise InvalidArgument("this is no such request") from exc
            if is_guarded and not is_open(request):
                await peer.admit(self._gate, context)
            return await answer(request, context)

        work = self._streamed(one) if parse is None else self._read(one)

        async def handle(request: Any, context: _ServicerContext) -> Any:
            try:
                return await work(request, context, None)
            except KitError as exc:
                failure = Failure(exc)
                await context.abort(failure.code, failure.text, failure.trailers())

        return handle

    def own(self, path: str, work: _Work, *, gives_stream: bool) -> Handler:
        """Return a method of the gateway's own that is served as those of services are.

        Args:
            path: Of the method.
            work: Takes the request, the call, and who makes it; returns the answer, or
                writes a stream of them.
            gives_stream: Whether it does.
        """
        read, is_open = self._read(work), path in self._public
        handle = self._counted(path.removeprefix("/"), read, is_open, path)
        return _HANDLERS[gives_stream](handle)

    def _read(self, work: _Work) -> _Work:
        """Return `work` on the one message of a call, which is read first."""
        message = self._reader.message

        async def read(_: Any, context: _ServicerContext, who: Principal | None) -> Any:
            data, claim = await message(context)
            try:
                return await work(data, context, who)
            finally:
                claim.end()

        return read

    def _streamed(self, work: _Work) -> _Work:
        """Return `work` with room for the messages of a client that streams."""

        async def hold(
            given: Any, context: _ServicerContext, who: Principal | None
        ) -> Any:
            claim = self._reader.stream()
            try:
                return await work(given, context, who)
            finally:
                claim.end()

        return hold

    def _counted(  # noqa: PLR0915  # flat: all of it runs for each call
        self, path: str, work: _Work, is_open: bool = False, rpc: str = "_OTHER"
    ) -> Callable[[Any, _ServicerContext], Awaitable[Any]]:
        """Return `work` for those let in, counted, logged, and its errors as statuses."""
        trace, is_public = _operation(rpc), self._options.public
        metrics, options, access = self._metrics, self._options, self._access
        gate = None if is_open or self._gate.is_open else self._gate

        async def handle(  # noqa: PLR0915
            request: Any, context: _ServicerContext
        ) -> Any:
            started = perf_counter()
            code: str = Code.CANCELLED
            who: Principal | None = None
            span, told = None, None
            if trace is not None:
                given = context.invocation_metadata() or ()
                span = trace.accept(dict(given), is_public=is_public)
            metrics.in_flight += 1
            try:
                admit(metrics.in_flight, options.max_concurrent)
                who = await peer.admit(gate, context) if gate else None
                answer = await work(request, context, who)
                if answer is not None:
                    check_size(answer, options)
            except BaseError as exc:  # the call is over: the client is gone
                raise asyncio.CancelledError from exc
            except Exception as exc:  # noqa: BLE001  # the last line of defence answers
                failure = _failure(exc, path)
                code, told = failure.error.code, failure
                await context.abort(failure.code, failure.text, failure.trailers())
            else:
                code = _OK
                return answer
            finally:
                metrics.in_flight -= 1
                took = perf_counter() - started
                _count(metrics, path, code, took, span, context)
                if access is not None:
                    _write_line(access, f"{path} {code}", context, took, who)
                if span is not None:
                    _finish(span, code, told)

        return handle

    def _unary(self, method: Method) -> _Work:
        callers, forwarding, message = (
            self._callers,
            self._forwarding,
            self._reader.message,
        )
        endpoint, codec = method.endpoint, method.codec
        caller = callers.of(endpoint)
        read, write = method.decode, method.encode

        async def ask(
            _: Any, context: _ServicerContext, who: Principal | None
        ) -> bytes:
            data, claim = await message(context)
            try:
                left = callers.seconds(time_left(context), endpoint)
                sent = context.invocation_metadata()
                fields, is_given = forwarding.fields(sent)
                if is_given:
                    id_ = fields[wire.REQUEST_ID]
                    context.set_trailing_metadata(((REQUEST_ID, id_),))
                by = given_by(callers, sent) if callers.headers else None
                ctx = callers.context(caller, codec, left, fields, who, by)
                try:
                    reply = await caller.send(ctx, read(data))
                except KitError as exc:
                    error = caller.explained(ctx, exc)
                    return _error_reply(_failure_of(error, method), method)
                try:
                    if not reply.header_block:
                        return write(reply.data)
                    if given := handler_metadata(reply):
                        await context.send_initial_metadata(given)
                    return write(_payload(reply, method))
                except DataLoss as exc:
                    raise Failure(caller.explained(ctx, exc)) from exc
            finally:
                claim.end()

        return ask

    def _streaming(self, method: Method) -> _Work:
        async def work(
            data: Any, context: _ServicerContext, who: Principal | None
        ) -> bytes | None:
            if method.takes_stream:
                payload = await _opening(method, context)
            else:
                payload = method.decode(data)
            try:
                async with self._open(method, payload, context, who) as stream:
                    if method.takes_stream:
                        self._start_feeding(stream, method, context)
                    if not method.gives_stream:
                        return await _only(stream, method)
                    await _pump(stream, method, context, self._options)
            except Failure as failure:
                if method.gives_stream:
                    raise
                return _error_reply(failure, method)
            return None

        return work

    def _start_feeding(
        self, stream: Stream, method: Method, context: _ServicerContext
    ) -> None:
        """Send the client's messages to the service while its answers are awaited."""
        # It ends with the call: a read that waits ends then too.  Cancelling it would
        # leave that read behind in gRPC's core.
        feeder = asyncio.create_task(_feed(stream, method, context))
        self._feeders.add(feeder)
        feeder.add_done_callback(self._feeders.discard)

    @contextlib.asynccontextmanager
    async def _open(
        self,
        method: Method,
        payload: bytes,
        context: _ServicerContext,
        who: Principal | None,
    ) -> AsyncIterator[Stream]:
        """Open a stream on the bus; it ends with the context, its errors as failures."""
        callers, sent = self._callers, context.invocation_metadata()
        fields, is_given = self._forwarding.fields(sent)
        if is_given:
            context.set_trailing_metadata(((REQUEST_ID, fields[wire.REQUEST_ID]),))
        caller = callers.of(method.endpoint)
        left = time_left(context)
        by = given_by(callers, sent)
        ctx = callers.context(caller, method.codec, left, fields, who, by)
        stream: Stream | None = None
        try:
            stream = await caller.open(ctx, payload)
            yield stream
            if stream.end is not None and (given := handler_metadata(stream.end)):
                before = context.trailing_metadata() or ()
                context.set_trailing_metadata((*before, *given))
        except KitError as exc:
            error = exc if stream is None else caller.stream_error(ctx, stream, exc)
            raise _failure_of(error, method) from exc
        finally:
            if stream is not None:
                stream.cancel()


def _operation(rpc: str) -> Operation | None:
    """Return what begins the spans of a method, by ``/package.Service/Method``."""
    method = rpc.removeprefix("/")
    return door(method, rpc_attributes("grpc", method))


def _finish(span: Span, code: str, failure: Failure | None) -> None:
    """End the span of a call; `code` is ``ok``, or says how it ended."""
    if failure is not None:
        is_business = failure.is_business
        span.finish(failure.error.code, failure.text, is_business=is_business)
    else:
        span.finish(None if code == _OK else Code(code))


def _count(
    metrics: Metrics,
    path: str,
    code: str,
    seconds: float,
    span: Span | None,
    context: _ServicerContext,
) -> None:
    if metrics.observe(path, code, seconds):
        sent = dict(context.invocation_metadata() or ())
        metrics.exemplify(path, code, seconds, exemplary(span, sent))


def _write_line(
    access: AccessLog,
    line: str,
    context: _ServicerContext,
    seconds: float,
    who: Principal | None,
) -> None:
    client = peer.address(context.peer())
    access.write(line, client=client, seconds=seconds, principal=who)


def _access_log(options: GatewayOptions) -> AccessLog | None:
    form = options.access_format
    return AccessLog("grpc", form) if form else None


def time_left(context: _ServicerContext) -> float | None:
    """Return the seconds until the client's deadline; None without one.

    Raises:
        DeadlineExceeded: There are none left.
    """
    left: float | None = context.time_remaining()
    if left is None or left >= wire.MAX_TIMEOUT:
        return None
    if left <= 0:
        raise DeadlineExceeded("the call took all its time to arrive")
    return left


def _error_reply(failure: Failure, method: Method) -> bytes:
    """Return the message that tells of a business error, where the .proto has a place.

    Raises:
        Failure: `failure`, where it has none.
    """
    if failure.is_business and method.error_reply is not None:
        return method.error_reply(failure.error)
    raise failure


def _payload(reply: Message, method: Method) -> bytes:
    """Return the payload of a reply in the method's own codec."""
    codec = reply_codec(reply, method.codec)
    if codec is method.codec:
        return reply.data
    try:
        value = codec.decoder(bytes if codec is RAW else Any)(reply.data)
        return method.codec.encoder(Any)(value)
    except (*DECODE_ERRORS, *ENCODE_ERRORS) as exc:
        raise DataLoss(f"the reply of {method.path} cannot be read") from exc


async def _opening(method: Method, context: _ServicerContext) -> bytes:
    """Return the request of a call whose client sends a stream."""
    if not method.is_framed:
        return method.decode(b"")
    data = await context.read()
    if data is EOF:
        raise InvalidArgument("the stream ended before its request", field="request")
    return method.decode(data)


async def _pump(
    stream: Stream, method: Method, context: _ServicerContext, options: GatewayOptions
) -> None:
    """Write the service's items; gRPC's own flow control slows the stream."""
    write = method.encode
    async for message in stream:
        item = write(message.data)
        check_size(item, options)
        await context.write(item)


async def _feed(stream: Stream, method: Method, context: _ServicerContext) -> None:
    """Send the client's messages to the service, as fast as it takes them."""
    item = method.decode_item
    try:
        while item is not None and (data := await context.read()) is not EOF:
            await stream.send(item(data))
        await stream.finish()
    except KitError as exc:
        stream.fail(exc)  # who reads the stream raises it
    except Exception as exc:  # noqa: BLE001  # a call that is over ends in many ways
        _log.debug("%s: the client's stream ended: %r", method.path, exc)
        stream.cancel()


async def _only(stream: Stream, method: Method) -> bytes:
    """Return the one result of a stream."""
    async for message in stream:
        return method.encode(message.data)
    raise Internal(f"{method.path} ended without a result")


def _failure_of(error: KitError, method: Method) -> Failure:
    """Return the failure that stands for an error of a call."""
    reply = error.reply
    name = "" if reply is None else reply.headers.get(ERROR, "")
    # An idempotent one may be sent again, begun or not.
    begun = has_begun(error) and not method.endpoint.is_idempotent
    if not name:
        return Failure(error, has_begun=begun)
    is_bare = method.endpoint.wire == "gokit"  # its body is the text again
    found = None if is_bare else details(reply, method.codec)
    fields = found if isinstance(found, dict) else {}
    typed = method.typed(name, fields) if method.typed is not None else None
    service = method.endpoint.service
    return Failure(
        error, name, service, fields, typed, is_business=True, has_begun=begun
    )


def _failure(error: Exception, path: str) -> Failure:
    """Return the failure that stands for anything that was raised."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, KitError):
        return Failure(error)
    _log.error("%s failed", path, exc_info=error)
    return Failure(Internal("internal error; the gateway's log has it"))


def check_size(message: bytes, options: GatewayOptions) -> None:
    """Refuse to send what gRPC's core would drop the call for, with a traceback."""
    if len(message) > options.max_message_bytes:
        raise ResourceExhausted(
            f"the reply has {len(message)} bytes; this gateway sends"
            f" {options.max_message_bytes} at most (--max-message-bytes)"
        )
