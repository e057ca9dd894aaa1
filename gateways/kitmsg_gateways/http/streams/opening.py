"""Opens a stream on the bus for an HTTP request; its errors become problems."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kitmsg.codec import JSON
from kitmsg.errors import KitError
from kitmsg_gateways.http.call import asked_timeout, fields_of, problem_of
from kitmsg_gateways.http.errors import Problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

    from kitmsg.codec import Codec
    from kitmsg.context import Context
    from kitmsg.transport.stream import Stream
    from kitmsg_gateways.edge.calls import Callers, EdgeCaller
    from kitmsg_gateways.http.methods import Match, Mounted
    from kitmsg_gateways.http.options import GatewayOptions
    from kitmsg_gateways.http.visit import Visit

__all__ = ["Opening"]


@dataclass(kw_only=True)
class Opening:
    """A request for a stream: all that is needed to open it.

    Attributes:
        callers: Open it.
        options: Of the gateway.
        visit: The request, and who makes it.
        match: The endpoint and the parameters in the path.
        query: As it was sent, with what else counts as parameters.
        codec: Of parameters and items.
        broken: What was wrong with the client's items, once that ended the stream.
    """

    callers: Callers
    options: GatewayOptions
    visit: Visit
    match: Match[Mounted]
    query: str
    codec: Codec = JSON
    broken: BaseException | None = None
    _call: tuple[EdgeCaller, Context] | None = None

    @property
    def mounted(self) -> Mounted:
        """The endpoint."""
        return self.match.route.target

    @property
    def request(self) -> web.BaseRequest:
        """The request."""
        return self.visit.request

    @contextlib.asynccontextmanager
    async def stream(self, body: bytes = b"") -> AsyncIterator[Stream]:
        """Open the stream; it is given up when the context ends.

        Args:
            body: Parameters, in the codec; b"" for those in path, query and headers.

        Raises:
            InvalidArgument: A parameter or header does not fit.
            KitError: Nobody takes the stream, or the service refuses.
        """
        headers = self.request.headers
        mounted = self.mounted
        timeout = asked_timeout(headers)
        data = mounted.parameters.build(
            self.match.values, self.query, body, self.codec, headers
        )
        fields = fields_of(self.visit, self.options)
        caller = self.callers.of(mounted)
        ctx = self.callers.context(
            caller, self.codec, timeout, fields, self.visit.principal
        )
        self._call = caller, ctx
        stream = await caller.open(ctx, data)
        try:
            yield stream
        finally:
            stream.cancel()

    def problem(
        self,
        error: BaseException,
        stream: Stream | None = None,
        *,
        is_head: bool = True,
    ) -> Problem:
        """Return the problem that stands for an error.

        Args:
            error: What was raised.
            stream: Whose end says more, if it ended.
            is_head: As in `problem_of`.
        """
        error = self.broken or error
        if not isinstance(error, KitError):
            return Problem.of(error, self.visit.id)
        if stream is not None and self.broken is None and self._call is not None:
            caller, ctx = self._call
            error = caller.stream_error(ctx, stream, error)
        return problem_of(error, self.mounted, self.codec, is_head=is_head)

    def problem_body(self, problem: Problem) -> bytes:
        """Return the JSON document of a problem of this request."""
        return problem.body(instance=self.visit.path, request_id=self.visit.id)
