"""HTTP/1.1 connections on the edge's listener, for a door whose library is an ASGI app.

uvicorn's protocol reads requests and writes responses; `Guard` stands in front of the
application and lets through what the options allow: origin, address, credentials, time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from kitmsg.auth import Refused
from kitmsg.errors import KitError, NotFound, PermissionDenied, ResourceExhausted
from kitmsg.wire import AUTHORIZATION, REQUEST_ID
from kitmsg_gateways.edge.auth import peer_principal
from kitmsg_gateways.edge.budget import Claim
from kitmsg_gateways.edge.calls import request_id
from kitmsg_gateways.edge.catalogue import unavailable
from kitmsg_gateways.edge.hosts import LOOPBACK, Hosts
from kitmsg_gateways.edge.proxies import Proxies, node_address
from kitmsg_gateways.edge.spans import TRACES
from kitmsg_gateways.edge.visit import Visit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from kitmsg_gateways.edge.admission import Place
    from kitmsg_gateways.edge.auth import Gate
    from kitmsg_gateways.edge.budget import Budget
    from kitmsg_gateways.edge.health import Health
    from kitmsg_gateways.edge.metrics import Metrics
    from kitmsg_gateways.edge.weboptions import WebOptions

__all__ = ["Connections", "Guard"]

# Strangers' mistakes are no news: only what fails here is logged.
_log = logging.getLogger("kitmsg_gateways.edge.asgi")
_log.setLevel(logging.ERROR)

_HEADER_BYTES: Final = 32 << 10
_SERVER_ERROR: Final = -32000  # JSON-RPC leaves this number to servers


class Connections:
    """The HTTP connections of one gateway.

    Args:
        app: Answers their requests.
        options: Limits and times.
        metrics: Counts connections that are closed for being slow.
        exposed: Response headers that web pages may read.
    """

    def __init__(
        self,
        app: ASGIApp,
        options: WebOptions,
        metrics: Metrics,
        exposed: Sequence[str] = (),
    ) -> None:
        if options.origins:
            any_ = ("*",)
            app = CORSMiddleware(
                app, options.origins, any_, any_, expose_headers=exposed
            )
        self.options = options
        self.metrics = metrics
        self.state = ServerState()
        self.config = Config(
            app,
            http=H11Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=math.ceil(options.keepalive_timeout),
            h11_max_incomplete_event_size=_HEADER_BYTES,
        )

    def connection(self, place: Place) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        return _Connection(self, place)

    def finish(self) -> None:
        """Close each connection after its response; those that are idle at once."""
        for connection in list(self.state.connections):
            connection.shutdown()

    async def abort(self) -> None:
        """Close all connections now, and wait for the end of their requests."""
        for connection in list(self.state.connections):
            connection.transport.abort()
        await asyncio.gather(*self.state.tasks, return_exceptions=True)


class _Connection(H11Protocol):
    """One connection: its place among those allowed, and its time to send a request."""

    def __init__(self, among: Connections, place: Place) -> None:
        super().__init__(among.config, among.state, {"connection": self})
        self.logger = _log
        self._among = among
        self._place = place
        # Runs while the headers of a request are awaited; None while one is answered.
        self._slow: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._place.leave()
        self._stop_watching()
        super().connection_lost(exc)

    def close_slow(self) -> None:
        """Close the connection, whose client takes too long."""
        self._among.metrics.closed["slow"] += 1
        self.transport.abort()

    def _watch(self) -> None:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first
        is_awaited = cycle is None or cycle.response_complete
        if not is_awaited or self.transport.is_closing():
            self._stop_watching()
        elif self._slow is None:
            seconds = self._among.options.header_timeout
            self._slow = self.loop.call_later(seconds, self.close_slow)

    def _stop_watching(self) -> None:
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None


class Guard:
    """ASGI middleware: proxies, authentication, rate limit, time limits.

    Requests that pass have a `Visit` in their scope, under ``visit``.

    Args:
        app: The application behind.
        options: Limits and times.
        gate: Checks credentials, and how often one calls.
        health: Whether requests should be sent here.
        budget: Counts the bytes of their bodies.
        path: The one path there is, such as ``/mcp``.
    """

    def __init__(
        self,
        app: ASGIApp,
        options: WebOptions,
        gate: Gate,
        health: Health,
        budget: Budget,
        path: str,
    ) -> None:
        self._app = app
        self._options = options
        self._auth = gate.auth
        self._gate = gate
        self._health = health
        self._budget = budget
        self._hosts = Hosts(options, has_auth=gate.auth.is_on)
        self._path = path
        self._proxies = Proxies(options.trusted_proxies, options.proxy_header)
        # The requests in flight but those that wait for news, which GET does.
        self._busy: set[asyncio.Task[Any]] = set()

    async def drained(self, timeout: float) -> bool:
        """Wait for the responses to requests; tell whether `timeout` was enough."""
        busy = list(self._busy)
        return not busy or not (await asyncio.wait(busy, timeout=timeout))[1]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""
        task = asyncio.current_task()
        if task is not None and scope["method"] != "GET":
            self._busy.add(task)
            task.add_done_callback(self._busy.discard)
        connection = scope["state"]["connection"]
        headers = Headers(scope=scope)
        peer = scope["client"][0] if scope["client"] else ""
        is_outside = self._options.public and not self._proxies.trusts(peer)
        given = headers.get("X-Request-Id") or headers.get(REQUEST_ID) or ""
        id_ = request_id("" if is_outside else given)
        claim = Claim(self._budget, connection.close_slow)
        timed = _Timed(connection, self._options, receive, send, claim)
        try:
            await self._answer(scope, headers, connection, id_, timed)
        finally:
            claim.end()

    async def _answer(
        self,
        scope: Scope,
        headers: Headers,
        connection: _Connection,
        id_: str,
        timed: _Timed,
    ) -> None:
        try:
            scope["visit"] = await self._admit(scope, headers, connection, id_)
            timed.expect(headers.get("Content-Length", ""))
        except KitError as exc:
            await self._refusal(exc, id_)(scope, timed.receive, timed.send)
            return
        await self._app(scope, timed.receive, timed.send)

    async def _admit(
        self, scope: Scope, headers: Headers, connection: _Connection, id_: str
    ) -> Visit:
        """Return who calls.

        Raises:
            KitError: The request is refused.
        """
        if scope["path"].rstrip("/") != self._path:
            raise NotFound(f"there is nothing at this path; {self._path} is the one")
        if self._health.is_draining:
            raise unavailable(self._health.problem())
        if not self._hosts.allows(headers.get("Host", "")):
            raise PermissionDenied(
                "this is not a name of this gateway; its allowed_hosts lists those there are"
            )
        self._check_origin(headers.get("Origin", ""))
        given = headers.getlist(AUTHORIZATION)
        peer = scope["client"][0] if scope["client"] else ""
        via = self._proxies.via(peer, scope["scheme"], headers.getlist)
        address = via.address if via else node_address(peer) or peer
        shown = peer_principal(connection.transport)
        credentials = self._auth.given(given, headers.getlist("X-Api-Key"))
        principal = await self._gate.admit(address, credentials, shown, id_)
        sent = tuple(given) if self._options.forward_authorization else ()
        return Visit(
            id=id_,
            address=address,
            authorization=sent,
            principal=principal,
            trace={name: headers.getlist(name) for name in TRACES if name in headers},
            is_outside=self._options.public and not self._proxies.trusts(peer),
            sent=headers.getlist,
        )

    def _check_origin(self, origin: str) -> None:
        """Refuse what a web page sends, but for pages that may.

        A page of anybody's reaches a gateway on loopback through its reader's browser,
        whatever name the page finds for it (DNS rebinding).

        Raises:
            PermissionDenied: The page may not.
        """
        if not origin or origin in self._options.origins:
            return
        is_local = self._options.host in LOOPBACK
        if not (is_local and urlsplit(origin).hostname in LOOPBACK):
            raise PermissionDenied("pages of this origin may not call")

    def _refusal(self, error: KitError, id_: str) -> Response:
        """Return the response to a request that is refused, as JSON-RPC tells errors."""
        facts = {"code": error.code.value, "request_id": id_}
        message = {"code": _SERVER_ERROR, "message": str(error), "data": facts}
        headers = {"X-Request-Id": id_, "Cache-Control": "no-store"}
        if error.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
        answer = Response(
            msgspec.json.encode({"jsonrpc": "2.0", "id": None, "error": message}),
            error.code.http,
            headers,
            "application/json",
        )
        if isinstance(error, Refused):
            for challenge in self._auth.challenges(error):
                answer.headers.append("WWW-Authenticate", challenge)
        return answer


class _Timed:
    """The two ends of a request; a client that is too slow at one loses its connection.

    The application sees that as the client's end.
    """

    def __init__(
        self,
        connection: _Connection,
        options: WebOptions,
        receive: Receive,
        send: Send,
        claim: Claim,
    ) -> None:
        self._claim = claim
        self._longest = options.max_body_bytes
        self._came = 0
        self._connection = connection
        self._send_timeout = options.send_timeout
        self._receive = receive
        self._send = send
        self._loop = asyncio.get_running_loop()
        # When the whole body must be here; None once it is.
        self._until: float | None = self._loop.time() + options.body_timeout

    def expect(self, length: str) -> None:
        """Hold room for a body of `length` bytes, or of unknown length.

        Raises:
            ResourceExhausted: There is none now.
        """
        size = int(length) if length.isdecimal() else 0
        self._claim.resize(min(size, self._longest))

    async def receive(self) -> Message:
        """Return the next part of the body, or the client's end."""
        if self._until is None:
            return await self._receive()
        with self._limit(self._until):
            message = await self._receive()
        self._came += len(message.get("body", b""))
        if not message.get("more_body", False):
            self._until = None
            self._claim.settle(self._came)
        elif self._came > self._claim.size:  # it did not say how long it is
            try:
                self._claim.resize(self._came)
            except ResourceExhausted:
                self._connection.close_slow()
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the response."""
        with self._limit(self._loop.time() + self._send_timeout):
            await self._send(message)

    @contextlib.contextmanager
    def _limit(self, until: float) -> Iterator[None]:
        timer = self._loop.call_at(until, self._connection.close_slow)
        try:
            yield
        finally:
            timer.cancel()
