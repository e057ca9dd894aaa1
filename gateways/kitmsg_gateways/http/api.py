"""One HTTP request: find the endpoint, read the request, call, answer.

Hot path: `Api.call` runs for every call and is flat on purpose.
"""

from __future__ import annotations

from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Final

from aiohttp import web

from kitmsg.codec import JSON, MSGPACK, RAW
from kitmsg.errors import Code, KitError
from kitmsg.logs.access import Call
from kitmsg_gateways.edge.accesslog import AccessLog
from kitmsg_gateways.edge.admission import admit
from kitmsg_gateways.edge.budget import Claim
from kitmsg_gateways.edge.spans import door, exemplary
from kitmsg_gateways.http.aiohttp_parts import Brief
from kitmsg_gateways.http.body import (
    arrived,
    body_limit,
    check_bodyless,
    read_body,
    size_of,
    too_large,
)
from kitmsg_gateways.http.call import (
    ask,
    asked_timeout,
    fields_of,
    given_by,
    request_codec,
    request_id,
    response,
)
from kitmsg_gateways.http.content import compress, represent
from kitmsg_gateways.http.errors import Problem
from kitmsg_gateways.http.events.serve import PREFIX, Events
from kitmsg_gateways.http.methods import left_with
from kitmsg_gateways.http.pages import Pages
from kitmsg_gateways.http.rpc import PATH, Rpc
from kitmsg_gateways.http.spans import finish_span
from kitmsg_gateways.http.streams.serve import Streams
from kitmsg_gateways.http.visit import PROBES, UNMATCHED, Visit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kitmsg.codec import Codec
    from kitmsg.metrics.families import Family
    from kitmsg_gateways.edge.events import EventDoor
    from kitmsg_gateways.edge.lifecycle import Gateway
    from kitmsg_gateways.http.filters import Filter
    from kitmsg_gateways.http.methods import Mounted, Table
    from kitmsg_gateways.http.options import GatewayOptions
    from kitmsg_gateways.http.router import Match

__all__ = ["Api"]


_NOT_FOUND: Final = 404
_UNAVAILABLE: Final = 503
_SHORT_BYTES: Final = 1 << 16
_CLIENT_CLOSED: Final = 499


class Api:
    """Answers requests.

    Args:
        gateway: Its endpoints, counters, limits and times.
        filters: What looks at a request before it is read, in this order.
        trusts: Tells whether an address is a proxy's.
        events: The events that are open; None for none.

    Attributes:
        rpc: JSON-RPC.
        live: The streams that are open.
    """

    def __init__(
        self,
        gateway: Gateway[GatewayOptions, Table],
        filters: Sequence[Filter],
        trusts: Callable[[str], bool] = lambda _: False,
        events: EventDoor | None = None,
    ) -> None:
        options = gateway.options
        self._bus = gateway.bus
        self._catalogue = catalogue = gateway.catalogue
        self._pages = Pages(gateway, events)
        self._admission = gateway.admission
        self._metrics = gateway.metrics
        self._health = gateway.health
        self._is_public = options.public
        self._trusts = trusts
        self._has_strangers = gateway.auth.is_on
        self._trace = door("HTTP", {})
        self._options = options
        self._budget = gateway.budget
        self._limit = options.max_concurrent
        form = options.access_format
        self._access = AccessLog("http", form) if form else None
        self._short = min(options.max_body_bytes, _SHORT_BYTES)
        self._compress_from = options.compress_from_bytes
        self._callers = gateway.callers
        self._filters = tuple(filters)
        self._streams = Streams(self._callers, options, self.body)
        self.live = self._streams.live
        self._events = None
        if events is not None:
            self._events = Events(events, self._callers, options, self.live, self.body)
        self.rpc = Rpc(self._callers, catalogue, options, self.body, gateway.gate)

    def collect(self) -> Iterator[Family]:
        """Yield metric families, beside those of each request."""
        yield from self.rpc.collect()
        yield from self.live.collect()

    async def handle(  # noqa: PLR0912, PLR0915
        self, request: web.BaseRequest
    ) -> web.StreamResponse:
        """Answer one request, whatever happens; counted and, if wished, logged."""
        started = perf_counter()
        self._metrics.in_flight += 1
        id_ = request_id(request.headers)
        target = request.raw_path
        if target[:1] != "/" and "://" in target:  # a proxy may send a whole URL
            target = request.rel_url.raw_path_qs
        path, _, query = target.partition("?")
        visit = Visit(request, path, id_)
        if self._is_public and not self._trusts(request.remote or ""):
            visit.come_from_outside()
        if self._trace is not None and path not in PROBES:
            visit.span = self._trace.accept(request.headers, is_public=visit.is_outside)
        answer = None
        try:
            answer = await self._answer(visit, query)
            if type(answer) is not Brief:  # which says so itself
                answer.headers["Server"] = "kitmsg"
            size = answer.size if type(answer) is Brief else _length(answer)
            if 0 < self._compress_from <= size:
                await compress(answer, request.headers)
            if visit.headers:
                visit.add_to(answer)
            if self._health.is_draining:
                answer.force_close()
            return answer
        finally:
            self._budget.give(visit.held)
            self._admission.leave()
            took = perf_counter() - started
            code = visit.code if answer is not None else Code.CANCELLED.value
            if self._metrics.observe(visit.name, code, took):
                trace = exemplary(visit.span, request.headers)
                self._metrics.exemplify(visit.name, code, took, trace)
            if self._access is not None:
                _write_line(self._access, visit, answer, took)
            if visit.span is not None:
                finish_span(visit, None if answer is None else answer.status)

    async def _answer(  # noqa: PLR0911, PLR0912
        self, visit: Visit, query: str
    ) -> web.StreamResponse:
        """Return the answer, or the problem that came up."""
        request, path = visit.request, visit.path
        try:
            for look in self._filters:
                answer = await look(visit)
                if answer is not None:
                    return answer
            page = self._pages.find(path)
            if page is not None:  # a full gateway is still alive, and says so
                visit.route = visit.name = path
                await self._pages.prepare(path)
                return page(request, visit.id)
            if self._metrics.in_flight > self._limit:  # streams have their own limit
                admit(self._metrics.in_flight - len(self.live), self._limit)
            if path.startswith(PATH):
                service = self.rpc.service(path)
                if service is not None:
                    visit.route = PATH if path == PATH else f"{PATH}/{service}"
                    visit.name = PATH
                    return await self.rpc.answer(visit, service)
            if self._events is not None and path.startswith(PREFIX):
                return await self._events.answer(visit, query)
            method = request.method
            if method == "OPTIONS":
                return self._options_of(path, visit.id)
            try:
                match = self._catalogue.table.router.match(method, path)
            except Problem as exc:
                raise self._unmatched(exc, method, path) from None
            mounted = match.route.target
            visit.route, visit.name = match.route.template, mounted.dotted
            if mounted.stream:
                return await self._streams.answer(visit, match, query)
            return await self.call(visit, match, query)
        except Exception as exc:  # the last line of defence answers
            if isinstance(exc, ConnectionError) and not isinstance(exc, KitError):
                raise  # the client went away
            return self._refuse(visit, Problem.of(exc, visit.id))

    def _refuse(self, visit: Visit, problem: Problem) -> web.StreamResponse:
        visit.code = problem.code.value
        if visit.name == UNMATCHED and visit.principal is None and self._has_strangers:
            return _veiled(problem).response(visit.path, visit.id)
        return problem.response(visit.path, visit.id)

    def _unmatched(
        self, problem: Problem, method: str, path: str
    ) -> KitError | Problem:
        def find(table: Table) -> Mounted | None:
            try:
                return table.router.match(method, path).route.target
            except Problem:
                return None

        is_unknown = problem.status == _NOT_FOUND
        return (is_unknown and left_with(self._catalogue, find)) or problem

    async def call(
        self, visit: Visit, match: Match[Mounted], query: str
    ) -> web.Response:
        """Call the endpoint that `match` leads to.

        Raises:
            Problem: The request is refused, or the service answered with an error.
            KitError: The call failed.
        """
        started = monotonic()
        request, mounted = visit.request, match.route.target
        headers = request.headers
        timeout = self._callers.seconds(asked_timeout(headers), mounted)
        # Go's servers take what comes for JSON, whatever its Content-Type.
        codec = (
            JSON
            if mounted.wire == "gokit"
            else request_codec(headers, has_body=request.body_exists)
        )
        data = b""
        if request.body_exists:
            here = arrived(request, min(self._short, self._bus.max_payload // 2))
            if here is None:
                here = await self.body(visit, is_kit=mounted.is_kit)
            elif here:
                self._budget.take(len(here))
                visit.held = len(here)
            data = here
        sent, data = _bound(match, query, codec, data, request)
        fields = fields_of(visit, self._options)
        left = timeout - (monotonic() - started)
        reply = await ask(
            self._callers,
            mounted,
            sent,
            data,
            seconds=left,
            fields=fields,
            principal=visit.principal,
            given=given_by(self._callers, headers),
        )
        answer = response(reply, mounted, sent, visit.id)
        if codec is not JSON or mounted.gives_bytes or mounted.cache is not None:
            return represent(answer, visit, mounted, codec)
        return answer

    async def body(self, visit: Visit, *, is_kit: bool = True) -> bytes:
        """Return the body of a request.

        Args:
            visit: The request.
            is_kit: Whether a kitmsg service takes it.

        Raises:
            Problem: It is too long, too slow or cannot be inflated.
            InvalidArgument: It is not framed as HTTP wants.
            ResourceExhausted: There is no room for it now.
        """
        request = visit.request
        limit = body_limit(self._bus, self._options, is_kit=is_kit)
        if (request.content_length or 0) > limit:
            raise too_large(limit)
        claim = Claim(self._budget, lambda: _end(request))
        claim.resize(size_of(request, limit))
        try:
            data = await read_body(request, limit, self._options.body_timeout)
        except BaseException:
            claim.end()
            raise
        claim.settle(len(data))
        visit.held = claim.size
        return data

    def _options_of(self, path: str, id_: str) -> web.Response:
        router = self._catalogue.table.router
        methods = ["GET", "HEAD", "OPTIONS", "POST"] if path == "*" else None
        allow = ", ".join(methods or router.allowed(path))
        return web.Response(status=204, headers={"Allow": allow, "X-Request-Id": id_})


def _bound(
    match: Match[Mounted],
    query: str,
    codec: Codec,
    data: bytes,
    request: web.BaseRequest,
) -> tuple[Codec, bytes]:
    """Return a request object as it goes to the service, and how it is encoded."""
    parameters = match.route.target.parameters
    check_bodyless(request, data)
    if codec is RAW and not data and not parameters.takes_bytes:
        codec = JSON  # many clients say "bytes" when they send nothing
    if match.values or query or parameters.headers:
        data = parameters.build(match.values, query, data, codec, request.headers)
        return (MSGPACK if codec is RAW else codec), data
    if not data and codec is not RAW:
        data = parameters.build({}, "", b"", codec)
    return codec, data


def _write_line(
    access: AccessLog, visit: Visit, answer: web.StreamResponse | None, seconds: float
) -> None:
    """Write the line of a request; one whose client went away before counts as 499."""
    status = _CLIENT_CLOSED if answer is None else answer.status
    access.write(
        f"{visit.request.method} {visit.path} {status}",
        client=visit.address,
        seconds=seconds,
        principal=visit.principal,
        call=None if access.is_line else _called(visit, status, answer, seconds),
        route=visit.route,
        bytes=_length(answer),
        request_id=visit.id,
        **({"client_request_id": visit.given_id} if visit.given_id else {}),
    )


def _called(
    visit: Visit, status: int, answer: web.StreamResponse | None, seconds: float
) -> Call:
    """Return a request as web servers see it."""
    request, version = visit.request, visit.request.version
    return Call(
        client=visit.address,
        user="",
        method=request.method,
        path=visit.path,
        protocol=f"HTTP/{version.major}.{version.minor}",
        status=status,
        size=_length(answer),
        seconds=seconds,
        referer=request.headers.get("Referer", ""),
        agent=request.headers.get("User-Agent", ""),
    )


def _veiled(problem: Problem) -> Problem:
    """Return the problem of a path that leads nowhere, without names: for strangers.

    They get so far below a path of ``auth_public``.
    """
    details = {
        _NOT_FOUND: "nothing is mounted here",
        _UNAVAILABLE: "what is mounted here is not there now",
    }
    detail = details.get(problem.status)
    if detail is None:
        return problem
    return Problem(
        problem.status, problem.code, detail, retry_after=problem.retry_after
    )


def _end(request: web.BaseRequest) -> None:
    """End a request that arrives too slowly for others to wait."""
    if request.transport is not None:
        request.transport.abort()


def _length(answer: web.StreamResponse | None) -> int:
    """Return the bytes of a body: of a whole one, or as many as a stream has written."""
    if type(answer) is Brief:
        return answer.size
    if isinstance(answer, web.Response):
        return len(answer.body) if isinstance(answer.body, bytes) else 0
    return 0 if answer is None else answer.body_length
