"""Endpoints that stream, over HTTP, in the format that a request asks for.

A client that does not read makes us wait, and so the service: nothing piles up between.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import web

from kitmsg.codec import JSON
from kitmsg.errors import DataLoss, KitError, Unavailable
from kitmsg_gateways.http.body import BODYLESS, body_limit, check_bodyless
from kitmsg_gateways.http.call import request_codec, response
from kitmsg_gateways.http.connection import sent
from kitmsg_gateways.http.cors import Cors
from kitmsg_gateways.http.errors import Problem, refusal
from kitmsg_gateways.http.streams.formats import format_of
from kitmsg_gateways.http.streams.live import Live, Opening, drop_if_gone
from kitmsg_gateways.http.streams.protocol import is_upgrade
from kitmsg_gateways.http.streams.source import pumping, source_of
from kitmsg_gateways.http.streams.websocket import Socket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kitmsg.message import Message
    from kitmsg_gateways.edge.calls import Callers
    from kitmsg_gateways.http.methods import Mounted
    from kitmsg_gateways.http.options import GatewayOptions
    from kitmsg_gateways.http.router import Match
    from kitmsg_gateways.http.streams.formats import Format
    from kitmsg_gateways.http.streams.live import Items
    from kitmsg_gateways.http.visit import Visit

__all__ = ["Download", "Streams", "head"]

GRACE_SECONDS: Final = 0.1
"""Time in which an error of the service is still the answer's own status."""

QUIET_SECONDS: Final = 1.0
"""Time after which a stream where nothing moves is cut off when the gateway stops."""

_FULL_BYTES: Final = 1 << 16
_SHORT_BYTES: Final = 1 << 12
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Accel-Buffering": "no",  # a word to nginx
    "Server": "kitmsg",
}


def head(opening: Opening, format_: Format) -> dict[str, str]:
    """Return the headers of an answer that streams."""
    return {
        "Content-Type": format_.media_type,
        "X-Request-Id": opening.visit.id,
        **_HEADERS,
    }


class Download:
    """One answer that streams; a `kitmsg_gateways.http.streams.live.Party`."""

    def __init__(
        self, live: Live, opening: Opening, format_: Format, stream: Items
    ) -> None:
        self.kind = format_.kind
        self._live = live
        self._opening = opening
        self._format = format_
        self._stream = stream
        self._response = web.StreamResponse(
            status=opening.mounted.status, headers=head(opening, format_)
        )
        self._has_written = True
        self._is_chunked = False
        self._is_cut = False

    async def run(self) -> web.StreamResponse:
        """Write items until there are no more.

        Raises:
            Problem: There was an error before anything was written.
            ConnectionError: The client went away, does not read, or has to be told of an
                error that way.
        """
        outcome = "client"
        self._live.enter(self)
        try:
            first = await self._first()
            await self._begin()
            outcome = await self._go_on(first)
        except Problem as exc:
            outcome = exc.code.value
            raise
        finally:
            self._live.exit(self, outcome)
        return self._response

    def beat(self) -> None:
        """Write a sign of life, if nothing was written since the last one."""
        has_written, self._has_written = self._has_written, False
        if not has_written and self._format.beat:
            self._put(self._format.beat)

    def leave(self) -> None:
        """End it, if its client will come back; else let it end, as long as it moves."""
        if self._format.is_resumed:
            self._cut()
        else:
            self._look_again()

    def _look_again(self) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(QUIET_SECONDS, self._cut_if_quiet, self._stream.moved)

    def _cut_if_quiet(self, moved: int) -> None:
        if self._stream.moved == moved:
            self._cut()
        elif self._stream.is_open:
            self._look_again()

    def _cut(self) -> None:
        """End it now: the gateway stops."""
        self._is_cut = True
        self._stream.fail(Unavailable("the gateway is stopping; come back"))

    async def _first(self) -> Message | None:
        """Return the first item; None if it does not come at once, or there is none.

        Raises:
            Problem: An error came instead.
        """
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                return await anext(self._stream, None)
        except TimeoutError:
            return None
        except KitError as exc:
            raise self._opening.problem(exc, self._stream) from exc

    async def _begin(self) -> None:
        self._opening.visit.add_to(self._response)
        await self._response.prepare(self._opening.request)
        self._is_chunked = "Transfer-Encoding" in self._response.headers
        if self._format.start:
            await self._write(self._format.start)

    async def _go_on(self, first: Message | None) -> str:
        """Write all items, and what is to say at the end; return the outcome."""
        item = self._format.item
        self._stream.on_item = self._pass_on
        try:
            if first is not None:
                await self._write(item(first.data))
            async for message in self._stream:
                await self._write(item(message.data))
        except KitError as exc:
            if self._is_cut and self._format.is_resumed:
                await self._write(self._format.pause())
                return "drained"
            return await self._fail(exc)
        if self._format.end:
            await self._write(self._format.end)
        return "ok"

    async def _fail(self, error: KitError) -> str:
        problem = self._opening.problem(error, self._stream, is_head=False)
        said = self._format.failure(self._opening.problem_body(problem))
        if said is not None:
            await self._write(said)
        else:
            self._break_off()
        return problem.code.value

    def _pass_on(self, message: Message) -> bool:
        """Write an item as soon as it comes, if the client keeps up."""
        try:
            data = self._format.item(message.data)
        except KitError:
            return False  # it is raised again where somebody can take it
        self._has_written = True
        return self._put(data)

    def _put(self, data: bytes) -> bool:
        """Write at once, if there is room; tell whether it was done."""
        request = self._opening.request
        transport = request.transport
        if transport is None or transport.get_write_buffer_size() > _FULL_BYTES:
            return False
        request.writer.output_size += len(data)
        if not self._is_chunked:
            transport.write(data)
        elif len(data) < _SHORT_BYTES:
            transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        else:  # many may be sent the same bytes, and then they are there once
            transport.writelines((b"%x\r\n" % len(data), data, b"\r\n"))
        return True

    async def _write(self, data: bytes) -> None:
        """Write when there is room.

        Raises:
            ConnectionError: The client does not read, or went away.
        """
        self._has_written = True
        if self._put(data):
            return
        request, seconds = self._opening.request, self._opening.options.send_timeout

        async def writing() -> None:
            await self._response.write(data)
            await request.writer.drain()

        await sent(writing(), request.transport, seconds)

    def _break_off(self) -> None:
        """Close the connection before the body is whole."""
        transport = self._opening.request.transport
        if transport is not None:
            transport.abort()


class Streams:
    """Answers requests for endpoints that stream.

    Attributes:
        live: The streams that are open.
    """

    def __init__(
        self,
        callers: Callers,
        options: GatewayOptions,
        read: Callable[..., Awaitable[bytes]],
    ) -> None:
        self.live = Live(options.max_streams, options.stream_heartbeat)
        self._callers = callers
        self._options = options
        self._read = read
        self._limit = body_limit(callers.bus, options, is_kit=False)
        self._cors = Cors(options.cors_origins)

    async def answer(
        self, visit: Visit, match: Match[Mounted], query: str
    ) -> web.StreamResponse:
        """Serve one request.

        Raises:
            Problem: The request is refused, or the service answered with an error.
            KitError: The call failed.
        """
        opening = Opening(
            callers=self._callers,
            options=self._options,
            visit=visit,
            match=match,
            query=query,
        )
        self.live.admit()
        if is_upgrade(visit.request):
            # A page of any origin may try, and the browser does not ask us first.
            if "Origin" in visit.request.headers:
                self._cors.check(visit, "connect")
            return await Socket(self.live, opening, self._limit).run()
        if match.route.target.stream == "out":
            return await self._out(opening)
        if visit.request.method in BODYLESS:
            raise refusal(
                426,
                "this takes a stream of items: send them as the body of a POST, or ask"
                " for a WebSocket",
                headers={"Upgrade": "websocket", "Connection": "Upgrade"},
            )
        return await self._in(opening)

    async def _out(self, opening: Opening) -> web.StreamResponse:
        """Answer with the items of a stream."""
        request = opening.request
        format_ = format_of(opening)
        body = await self._parameters(opening.visit) if request.body_exists else b""
        if request.method == "HEAD":
            return web.Response(
                status=opening.mounted.status, headers=head(opening, format_)
            )
        async with opening.stream(body) as stream:
            return await Download(self.live, opening, format_, stream).run()

    async def _parameters(self, visit: Visit) -> bytes:
        request = visit.request
        body = await self._read(visit, is_kit=False)
        check_bodyless(request, body)
        if body and request_codec(request.headers, has_body=True) is not JSON:
            raise refusal(
                415,
                "the parameters of a stream come as JSON; msgpack goes over a WebSocket",
                field="Content-Type",
            )
        return body

    async def _in(self, opening: Opening) -> web.StreamResponse:
        """Take the items in the body; answer with the result, or with items."""
        format_ = format_of(opening) if opening.mounted.stream == "both" else None
        more, items = await source_of(opening, self._limit)
        opening.query = "&".join(filter(None, (opening.query, more)))
        async with opening.stream() as stream, pumping(opening, stream, items):
            if format_ is not None:
                return await Download(self.live, opening, format_, stream).run()
            return await self._result(opening, stream)

    async def _result(self, opening: Opening, stream: Items) -> web.Response:
        party = _Upload(opening.request)
        outcome = "client"
        self.live.enter(party)
        try:
            reply = await anext(stream, None)
            async for _ in stream:
                raise DataLoss(f"{opening.mounted.subject} gave more than one result")
            if reply is None:
                raise DataLoss(f"{opening.mounted.subject} ended without a result")
            outcome = "ok"
        except KitError as exc:
            problem = opening.problem(exc, stream)
            outcome = problem.code.value
            raise problem from exc
        finally:
            self.live.exit(party, outcome)
        return response(reply, opening.mounted, opening.codec, opening.visit.id)


class _Upload:
    """A request that streams in; a `kitmsg_gateways.http.streams.live.Party`."""

    kind = "upload"

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request

    def beat(self) -> None:
        """Find out whether the client is there: nothing can be said to it yet."""
        drop_if_gone(self._request.transport)

    def leave(self) -> None:
        """Do nothing: the client may finish."""
