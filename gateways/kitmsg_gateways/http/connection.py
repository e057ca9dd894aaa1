"""HTTP connections: limits on times and sizes, problems for bytes that are no HTTP, writes.

aiohttp's low-level server parses; what of it is private stands in `aiohttp_parts`.

Hot path: `encode`.  Most answers are a few bytes of JSON on a connection that stays open;
building them as aiohttp does, header map first, takes a fifth of the gateway's time.  What
is not so simple (errors that close, HEAD, HTTP/1.0, files) aiohttp writes.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeGuard, TypeVar

from aiohttp import web
from aiohttp.http import HttpVersion10, HttpVersion11
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from kitmsg.errors import Code, ResourceExhausted
from kitmsg.metrics.calls import OTHER
from kitmsg_gateways.edge.budget import Claim
from kitmsg_gateways.http.aiohttp_parts import Brief, RequestHandler, http_date
from kitmsg_gateways.http.errors import Problem, refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kitmsg_gateways.edge.admission import Place
    from kitmsg_gateways.edge.budget import Budget
    from kitmsg_gateways.edge.metrics import Metrics
    from kitmsg_gateways.http.options import GatewayOptions

__all__ = ["Connection", "Server", "encode", "sent"]

_log = logging.getLogger("kitmsg_gateways.http")

T = TypeVar("T")
Handler: TypeAlias = "Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]"

_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n"
    for status in HTTPStatus
}
_FAULTY: Final = 400  # statuses of clients who may still be sending
_INTERNAL: Final = 500
_LINGER_SECONDS: Final = 10.0  # for the rest of a body that nobody reads
_BAD_VERSION: Final = 505
_VERSIONS: Final = frozenset({HttpVersion10, HttpVersion11})
_TIMED_OUT: Final = (
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)
_HEAD_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\n"
    b"Content-Length: 0\r\n\r\n"
)
_BUSY: Final = (
    b"HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\nRetry-After: 1\r\n"
    b"Content-Length: 0\r\n\r\n"
)
_CLIENTS_FAULT: Final = (HttpProcessingError, web.RequestPayloadError, ConnectionError)


class Server(web.Server):
    """Makes our connections and requests instead of aiohttp's own."""

    def __init__(
        self,
        handler: Handler,
        options: GatewayOptions,
        limit: int,
        metrics: Metrics,
        budget: Budget,
    ) -> None:
        # A client that goes away cancels its handler, and so the turn in the service.
        self._answer = handler
        super().__init__(
            self._handle,
            handler_cancellation=True,
            request_factory=self._request,
        )
        self.options = options
        self.limit = limit
        self.metrics = metrics
        self.budget = budget

    def _handle(self, request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        if type(request) is _OtherVersion:
            return request.refusal()
        return self._answer(request)

    def _request(
        self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any
    ) -> web.BaseRequest:
        protocol.headers_arrived()
        protocol.expects_headers = False
        protocol.body = payload
        kind = web.BaseRequest
        if message.version not in _VERSIONS:  # the answer is one of ours all the same
            message = message._replace(version=HttpVersion11, should_close=True)
            kind = _OtherVersion
        return kind(
            message,
            payload,
            protocol,
            writer,
            task,
            task.get_loop(),
            client_max_size=self.limit,
        )


class _OtherVersion(web.BaseRequest):
    """A request in a version of HTTP that is not spoken here, such as 0.9."""

    async def refusal(self) -> web.StreamResponse:
        """Return the answer to it."""
        return self.protocol.handle_error(self, _BAD_VERSION)


class Connection(RequestHandler):
    """One connection: adds limits on times, and problems for bad HTTP."""

    __slots__ = (
        "_head",
        "_header_timer",
        "_place",
        "_send_timeout",
        "_server",
        "body",
        "expects_headers",
    )

    def __init__(self, manager: Server, place: Place) -> None:
        options = manager.options
        super().__init__(
            manager,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=options.keepalive_timeout,
            max_line_size=options.max_header_bytes,
            max_field_size=options.max_header_bytes,
            max_headers=options.max_headers,
            access_log=None,  # type: ignore[arg-type]  # ours knows the route
            lingering_time=min(options.body_timeout, _LINGER_SECONDS),
            auto_decompress=False,  # how much comes out has a bound here: `compress`
        )
        self._server = manager
        self._place = place
        self._send_timeout = options.send_timeout
        self.expects_headers = True
        self.body: Any = None  # of the request that was taken last
        self._header_timer: asyncio.TimerHandle | None = None
        self._head: Claim | None = None  # of a head that came in parts

    def data_received(self, data: bytes) -> None:
        """Take bytes; a request whose headers are not complete starts the clock."""
        is_after_body = self.body is None or self.body.is_eof()
        if is_after_body and self.is_idle and not self._fits(data):
            return
        # Most requests bring all their headers at once and cost no timer.
        is_part = self.expects_headers and is_after_body and b"\r\n\r\n" not in data
        if is_part and self._header_timer is None:
            self._header_timer = asyncio.get_running_loop().call_later(
                self._server.options.header_timeout, self._too_slow
            )
        super().data_received(data)
        if self._head is not None and not self.is_idle:
            self._head.end()

    @property
    def budget(self) -> Budget:
        """The budget of bytes of its gateway."""
        return self._server.budget

    def _fits(self, data: bytes) -> bool:
        """Count what belongs to a head; tell whether there is room for it."""
        # Most heads come whole, in one piece, and cost no more than this.
        end, head = data.find(b"\r\n\r\n"), self._head
        size = (len(data) if end < 0 else end) + (head.size if head else 0)
        refusal = _HEAD_TOO_LARGE if size > self._server.options.max_head_bytes else b""
        if not refusal and end < 0:
            if head is None:
                head = self._head = Claim(self._server.budget, self._give_way)
            try:
                head.resize(size)
            except ResourceExhausted:
                refusal = _BUSY
        if refusal:
            self._server.metrics.closed["headers"] += 1
            self._end(refusal)
        return not refusal

    def _give_way(self) -> None:
        self._server.metrics.closed["slow"] += 1
        self.force_close()

    def headers_arrived(self) -> None:
        """Stop the clock."""
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def connection_lost(self, exc: BaseException | None) -> None:
        """Put away what belongs to the connection."""
        self.headers_arrived()
        if self._head is not None:
            self._head.end()
        self._place.leave()
        super().connection_lost(exc)

    def _too_slow(self) -> None:
        self._end(_TIMED_OUT)

    def part(self) -> None:
        """End it, with what it was answered; the clock stops."""
        self.headers_arrived()
        super().part()

    def _end(self, answer: bytes) -> None:
        """Say the last, and end the connection."""
        if self.transport is not None:
            self.transport.write(answer)
        self.part()

    async def finish_response(
        self,
        request: web.BaseRequest,
        resp: web.StreamResponse,
        start_time: float | None,
    ) -> tuple[web.StreamResponse, bool]:
        """Write an answer; a simple one in one go."""
        self.expects_headers = True
        if not _is_simple(resp, request) or not self.may_write_whole:
            writing = super().finish_response(request, resp, start_time)
            written = await sent(writing, self.transport, self._send_timeout)
            if resp.status >= _FAULTY and not resp.keep_alive:
                self.part()
            return written
        is_there = self.write_whole(request, resp, encode(resp))
        if is_there and self.writing_paused:
            await sent(request.writer.drain(), self.transport, self._send_timeout)
        return resp, not is_there

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """Log what aiohttp did not expect; a client's broken body is no error of ours."""
        error = kwargs.get("exc_info")
        if isinstance(error, _CLIENTS_FAULT):
            _log.debug("a connection ended: %s", type(error).__name__)
        else:
            super().log_exception(*args, **kwargs)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the problem for bytes that are no HTTP; the connection ends.

        A status of 500 and more is the gateway's own failure.
        """
        id_ = secrets.token_hex(8)
        problem = refusal(400, "this is not a valid HTTP request")
        if status == _BAD_VERSION:
            text = "HTTP/1.1 and 1.0 are spoken here"
            problem = Problem(_BAD_VERSION, Code.UNIMPLEMENTED, text)
        elif status >= _INTERNAL and not isinstance(exc, _CLIENTS_FAULT):
            problem = Problem.of(exc, id_)
        elif isinstance(exc, LineTooLong) or "Too many headers" in str(exc):
            text = "the request line or a header is too long, or there are too many"
            problem = refusal(431, text)
        _log.debug("bad HTTP from %s (request id %s): %s", request.remote, id_, exc)
        if problem.status != _INTERNAL:
            self._server.metrics.observe(OTHER, problem.code.value, 0.0)
        response = problem.response("", id_)
        response.headers["Server"] = "kitmsg"
        response.force_close()
        return response


async def sent(
    sending: Awaitable[T], transport: asyncio.Transport | None, seconds: float
) -> T:
    """Wait until an answer is on its way; not for ever for a client that never reads.

    Raises:
        ConnectionError: It took too long; the connection is gone.
    """
    try:
        async with asyncio.timeout(seconds):
            return await sending
    except TimeoutError:
        if transport is not None:
            transport.abort()
        raise ConnectionAbortedError("the client does not read") from None


def _is_simple(
    response: web.StreamResponse, request: web.BaseRequest
) -> TypeGuard[web.Response]:
    """Tell whether `encode` may write `response` to `request`; nobody has begun to."""
    return (
        request.keep_alive
        and request.version == HttpVersion11
        and request.method != "HEAD"
        and response.keep_alive is None
        and (
            type(response) is Brief
            or (
                type(response) is web.Response
                and type(response.body) is bytes
                and response.status in _LINES
                and "Content-Type" in response.headers  # aiohttp would add one
            )
        )
    )


def encode(response: web.Response) -> bytes:
    """Return all of `response` as bytes.

    Raises:
        TypeError: The body is no bytes.
        ValueError: A header holds a line break, which would forge another.
    """
    if type(response) is Brief and "_headers" not in response.__dict__:
        return response.encode()  # nobody has looked at the headers
    body = response.body
    if not isinstance(body, bytes):
        raise TypeError(f"the body must be bytes, not {type(body).__name__}")
    lines = [f"{name}: {value}\r\n" for name, value in response.headers.items()]
    text = "".join(lines)
    if text.count("\r") != len(lines) or text.count("\n") != len(lines):
        raise ValueError("a header of the answer holds a line break")
    head = (
        f"{_LINES[response.status]}{text}Content-Length: {len(body)}\r\n"
        f"Date: {http_date()}\r\n\r\n"
    )
    return head.encode("utf-8") + body
