"""Endpoints that stream, over HTTP, in the format that a request asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from kitmsg.codec import JSON
from kitmsg.errors import Code, DataLoss, KitError
from kitmsg_gateways.http.body import BODYLESS, body_limit, check_bodyless
from kitmsg_gateways.http.call import request_codec, response
from kitmsg_gateways.http.cors import Cors
from kitmsg_gateways.http.errors import Problem
from kitmsg_gateways.http.streams.download import Download, head
from kitmsg_gateways.http.streams.formats import format_of
from kitmsg_gateways.http.streams.handshake import check_origin, is_upgrade
from kitmsg_gateways.http.streams.live import Live, drop_if_gone
from kitmsg_gateways.http.streams.opening import Opening
from kitmsg_gateways.http.streams.source import pumping, source_of
from kitmsg_gateways.http.streams.websocket import Socket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kitmsg.transport.stream import Stream
    from kitmsg_gateways.edge.calls import Callers
    from kitmsg_gateways.http.methods import Mounted
    from kitmsg_gateways.http.options import GatewayOptions
    from kitmsg_gateways.http.router import Match
    from kitmsg_gateways.http.visit import Visit

__all__ = ["Streams"]

_UNSUPPORTED: Final = 415
_UPGRADE_REQUIRED: Final = 426


class Streams:
    """Answers requests for endpoints that stream.

    Args:
        callers: Open the streams.
        options: Limits and times.
        read: Returns the body of a request, as `Api.body` does.

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
            check_origin(visit, self._cors)
            return await Socket(self.live, opening, self._limit).run()
        if match.route.target.stream == "out":
            return await self._out(opening)
        if visit.request.method in BODYLESS:
            raise Problem(
                _UPGRADE_REQUIRED,
                Code.INVALID_ARGUMENT,
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
            raise Problem(
                _UNSUPPORTED,
                Code.INVALID_ARGUMENT,
                "the parameters of a stream come as JSON; msgpack goes over a WebSocket",
                field="Content-Type",
            )
        return body

    async def _in(self, opening: Opening) -> web.StreamResponse:
        """Take the items in the body; answer with the result, or with items."""
        format_ = format_of(opening) if opening.mounted.stream == "both" else None
        source = await source_of(opening, self._limit)
        more = await source.begin()
        opening.query = "&".join(filter(None, (opening.query, more)))
        async with opening.stream() as stream, pumping(opening, stream, source):
            if format_ is not None:
                return await Download(self.live, opening, format_, stream).run()
            return await self._result(opening, stream)

    async def _result(self, opening: Opening, stream: Stream) -> web.Response:
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

    __slots__ = ("_request",)

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request

    def beat(self) -> None:
        """Find out whether the client is there: nothing can be said to it yet."""
        drop_if_gone(self._request.transport)

    def leave(self) -> None:
        """Do nothing: the client may finish."""
