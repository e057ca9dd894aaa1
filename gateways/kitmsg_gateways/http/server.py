"""`GatewayServer`: the sockets, the limits on what comes in, start and stop.

aiohttp's low-level server parses HTTP; the routes are our own, because they come and go.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aiohttp import web
from aiohttp.http import HttpVersion10, HttpVersion11
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from kitmsg.errors import Code, FailedPrecondition, InvalidArgument
from kitmsg_gateways.edge.admission import Connections, raise_file_limit
from kitmsg_gateways.edge.listener import Listener, bind
from kitmsg_gateways.http.api import Api, problem_response
from kitmsg_gateways.http.body import body_limit
from kitmsg_gateways.http.chain import Chain
from kitmsg_gateways.http.metrics import Metrics
from kitmsg_gateways.http.mount import Mounts
from kitmsg_gateways.http.options import GatewayOptions
from kitmsg_gateways.http.pages import RESERVED, Pages
from kitmsg_gateways.http.problem import Problem, unexpected
from kitmsg_gateways.http.straight import Straight
from kitmsg_gateways.http.whole import is_simple, whole

if TYPE_CHECKING:
    import socket
    from collections.abc import Coroutine, Sequence

    from kitmsg.bus import Bus
    from kitmsg_gateways.edge.admission import Place
    from kitmsg_gateways.http.mount import Table

__all__ = ["GatewayServer"]

_log = logging.getLogger("kitmsg_gateways.http")

T = TypeVar("T")

_BAD_REQUEST: Final = 400
_HEADERS_TOO_LARGE: Final = 431
_INTERNAL: Final = 500
_LINGER_SECONDS: Final = 10.0  # for the rest of a body that nobody reads
_BAD_VERSION: Final = 505
_VERSIONS: Final = frozenset({HttpVersion10, HttpVersion11})
_MALFORMED: Final = "(malformed)"
_TIMED_OUT: Final = (
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)
_FULL: Final = (
    b"HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\nRetry-After: 1\r\n"
    b"Content-Length: 0\r\n\r\n"
)
_CLOSE_SECONDS: Final = 1.0  # for the last answers to be written
_CANCEL_SECONDS: Final = 0.01
_CLIENTS_FAULT: Final = (HttpProcessingError, web.RequestPayloadError, ConnectionError)


class GatewayServer:
    """One HTTP gateway on a bus, which it does not close.

    Args:
        bus: Where the services are.
        options: Limits, times and switches.
        sockets: Sockets that other processes take connections from too, instead of its
            own; they are closed at the end.

    Raises:
        KitError: An option does not fit, or a file cannot be used.
    """

    def __init__(
        self,
        bus: Bus,
        options: GatewayOptions | None = None,
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        self.options = options or GatewayOptions()
        self._shared = list(sockets)
        if self.options.workers > 1 and not sockets:
            raise InvalidArgument(
                "workers: this is one process; kitmsg gateway http --workers starts more"
            )
        self._edge = Chain(self.options)
        self.connections = Connections(
            raise_file_limit(self.options.max_connections),
            self.options.max_connections_per_address,
            self._edge.proxies.trusts,
        )
        self.metrics = Metrics()
        self.metrics.connections = self.connections
        self.metrics.served = lambda: len(self.table.endpoints)
        if sockets:  # or who reads /metrics would take several counters for one
            self.metrics.process = str(os.getpid())
        self._mounts = Mounts(bus, RESERVED, self.options.discovery_interval)
        pages = Pages(bus, self._mounts, self.metrics, self.options)
        self._api = Api(
            bus, self._mounts, pages, self.metrics, self.options, self._edge.filters
        )
        self._limit = body_limit(bus, self.options)
        self._web: _Server | None = None
        self._listener: Listener | None = None

    @property
    def table(self) -> Table:
        """What is mounted now."""
        return self._mounts.table

    @property
    def port(self) -> int:
        """The port it listens on.

        Raises:
            FailedPrecondition: It is not started.
        """
        if self._listener is None or not self._listener.sockets:
            raise FailedPrecondition("the gateway is not started")
        return int(self._listener.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """Where it is, such as ``http://127.0.0.1:8080``."""
        host = self.options.host or "localhost"
        scheme = "http" if self._edge.tls is None else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def is_draining(self) -> bool:
        """Whether it is stopping: what is in flight is finished, nothing begun."""
        return self._api.is_draining

    async def start(self) -> None:
        """Find and mount the services, then accept requests.

        Raises:
            OSError: The address cannot be had.
        """
        options = self.options
        web_server = self._web = _Server(
            self._api.handle, options, self._limit, self.metrics
        )
        tls = self._edge.tls
        self._listener = Listener(
            self._shared
            or bind(options.host, options.port, reuse_port=options.reuse_port),
            web_server.connection,
            self.connections,
            tls=tls.context if tls else None,
            handshake_timeout=options.handshake_timeout,
            is_shared=bool(self._shared),
            refusal=_FULL,
        )
        try:
            await self._edge.start()
            await self._mounts.start()
            self._listener.start()
        except BaseException:
            await self._listener.stop()
            await self._mounts.stop()
            await self._edge.stop()
            raise
        count = len(self.table.endpoints)
        _log.info("HTTP gateway, %d endpoints, ready at %s", count, self.url)

    async def stop(self) -> None:
        """Accept no more, finish what is in flight in `drain_timeout`, close.

        What is not finished then is cancelled, and with it the services' turns.
        """
        listener, handler = self._listener, self._web
        if listener is None or handler is None:
            return
        self._listener = self._web = None
        await listener.stop()
        self._api.drain()
        close_seconds = _CLOSE_SECONDS
        try:
            async with asyncio.timeout(self.options.drain_timeout):
                await self._api.idle.wait()
        except TimeoutError:
            _log.warning("%d requests did not finish in time", self.metrics.in_flight)
            close_seconds = _CANCEL_SECONDS
        handler.pre_shutdown()
        await handler.shutdown(close_seconds)
        await self._mounts.stop()
        await self._edge.stop()

    def reload(self) -> None:
        """Read certificates, keys and passwords again, now; connections stay."""
        self._edge.reload()

    def exposition(self) -> str:
        """Return the counters in Prometheus' text format."""
        return self.metrics.exposition()


class _Server(web.Server):
    """Makes our connections and requests instead of aiohttp's own."""

    def __init__(
        self, handler: Any, options: GatewayOptions, limit: int, metrics: Metrics
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

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            if isinstance(request, _OtherVersion):
                return request.protocol.handle_error(request, _BAD_VERSION)
            response: web.StreamResponse = await self._answer(request)
            return response
        finally:
            connection = request.protocol
            if isinstance(connection, _Connection):
                connection.expects_headers = True

    def connection(self, place: Place) -> web.RequestHandler:
        """Return the protocol of a new connection."""
        options = self.options
        return _Connection(
            self,
            place,
            send_timeout=options.send_timeout,
            loop=asyncio.get_running_loop(),
            header_timeout=options.header_timeout,
            keepalive_timeout=options.keepalive_timeout,
            max_line_size=options.max_header_bytes,
            max_field_size=options.max_header_bytes,
            max_headers=options.max_headers,
            access_log=None,
            lingering_time=min(options.body_timeout, _LINGER_SECONDS),
            auto_decompress=False,  # how much comes out has a bound here: `compress`
        )

    def _request(
        self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any
    ) -> web.BaseRequest:
        protocol.headers_arrived()
        protocol.expects_headers = False
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


class _Connection(Straight):
    """One connection: adds limits on times, and problems for bad HTTP."""

    __slots__ = (
        "_header_timeout",
        "_header_timer",
        "_place",
        "_send_timeout",
        "expects_headers",
    )

    def __init__(
        self,
        manager: web.Server,
        place: Place,
        *,
        header_timeout: float,
        send_timeout: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(manager, **kwargs)
        self._place = place
        self._send_timeout = send_timeout
        self._header_timeout = header_timeout
        self.expects_headers = True
        self._header_timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Take bytes; a request whose headers are not complete starts the clock."""
        # Most requests bring all their headers at once and cost no timer.
        is_part = self.expects_headers and b"\r\n\r\n" not in data
        if is_part and self._header_timer is None:
            self._header_timer = asyncio.get_running_loop().call_later(
                self._header_timeout, self._too_slow
            )
        super().data_received(data)

    def headers_arrived(self) -> None:
        """Stop the clock."""
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def connection_lost(self, exc: BaseException | None) -> None:
        """Put away what belongs to the connection."""
        self.headers_arrived()
        self._place.leave()
        super().connection_lost(exc)

    def _too_slow(self) -> None:
        if self.transport is not None:
            self.transport.write(_TIMED_OUT)
        self.force_close()

    async def finish_response(
        self,
        request: web.BaseRequest,
        resp: web.StreamResponse,
        start_time: float | None,
    ) -> tuple[web.StreamResponse, bool]:
        """Write an answer; a simple one in one go."""
        if not is_simple(resp, request) or self._upgraded:
            return await self._sent(super().finish_response(request, resp, start_time))
        request._finish()  # noqa: SLF001  as aiohttp's own does
        if self.transport is None or self.transport.is_closing():
            return resp, True
        self.transport.write(whole(resp))
        resp._keep_alive = True  # noqa: SLF001  aiohttp asks it whether to go on
        if self._paused:
            await self._sent(self._drain_helper())
        return resp, False

    async def _sent(self, sending: Coroutine[Any, Any, T]) -> T:
        """Wait until an answer is on its way; not for ever for a client that never reads.

        Raises:
            ConnectionError: It took too long; the connection is gone.
        """
        try:
            async with asyncio.timeout(self._send_timeout):
                return await sending
        except TimeoutError:
            if self.transport is not None:
                self.transport.abort()
            raise ConnectionAbortedError("the client does not read") from None

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
        problem = Problem(
            _BAD_REQUEST, Code.INVALID_ARGUMENT, "this is not a valid HTTP request"
        )
        if status == _BAD_VERSION:
            problem = Problem(
                _BAD_VERSION, Code.UNIMPLEMENTED, "HTTP/1.1 and 1.0 are spoken here"
            )
        elif status >= _INTERNAL and not isinstance(exc, _CLIENTS_FAULT):
            problem = unexpected(exc, id_)
        elif isinstance(exc, LineTooLong) or "Too many headers" in str(exc):
            problem = Problem(
                _HEADERS_TOO_LARGE,
                Code.INVALID_ARGUMENT,
                "the request line or a header is too long, or there are too many",
            )
        _log.debug("bad HTTP from %s (request id %s): %s", request.remote, id_, exc)
        if problem.status != _INTERNAL and isinstance(self._manager, _Server):
            self._manager.metrics.observe(_MALFORMED, problem.code.value, 0.0)
        response = problem_response(problem, "", id_)
        response.headers["Server"] = "kitmsg"
        response.force_close()
        return response
