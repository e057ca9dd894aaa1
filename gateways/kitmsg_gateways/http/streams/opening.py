"""From an HTTP request to an open stream on the bus, and from its errors to problems."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kitmsg.codec import JSON
from kitmsg.errors import KitError, NoResponders
from kitmsg.transport.opening import open_stream
from kitmsg_gateways.http.call import GONE, asked_timeout, header_block, raise_error
from kitmsg_gateways.http.errors import Problem, unexpected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

    from kitmsg.bus import Bus
    from kitmsg.codec import Codec
    from kitmsg.transport.stream import Stream
    from kitmsg_gateways.http.methods import Mounted
    from kitmsg_gateways.http.options import GatewayOptions
    from kitmsg_gateways.http.router import Match
    from kitmsg_gateways.http.visit import Visit

__all__ = ["Opening"]


@dataclass(kw_only=True)
class Opening:
    """A request for a stream: all that is needed to open it.

    Attributes:
        bus: What carries it.
        options: Of the gateway.
        visit: The request, and who makes it.
        match: The endpoint and the parameters in the path.
        query: As it was sent, with what else counts as parameters.
        codec: Of parameters and items.
        broken: What was wrong with the client's items, once that ended the stream.
    """

    bus: Bus
    options: GatewayOptions
    visit: Visit
    match: Match[Mounted]
    query: str
    codec: Codec = JSON
    broken: BaseException | None = None

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
        block = header_block(
            headers,
            timeout=None,
            request_id=self.visit.id,
            codec=self.codec,
            forward_authorization=self.options.forward_authorization,
            principal=self.visit.principal,
        )
        try:
            stream = await open_stream(
                self.bus, mounted.subject, data, block, timeout=timeout
            )
        except NoResponders as exc:
            raise NoResponders(mounted.subject, GONE) from exc
        try:
            yield stream
        finally:
            stream.cancel()

    def problem(self, error: BaseException, stream: Stream | None = None) -> Problem:
        """Return the problem that stands for an error.

        Args:
            error: What was raised.
            stream: Whose end says more, if it ended.
        """
        error = self.broken or error
        if isinstance(error, Problem):
            return error
        if self.broken is not None:
            stream = None
        if stream is not None and stream.end is not None:
            try:
                raise_error(stream.end, self.mounted, self.codec, self.visit.id)
            except Problem as problem:
                return problem
        if isinstance(error, KitError):
            return Problem.of(error, self.visit.id)
        return unexpected(error, self.visit.id)

    def problem_body(self, problem: Problem) -> bytes:
        """Return the JSON document of a problem of this request."""
        path = self.visit.path.encode("utf-8", "replace").decode()
        return problem.body(instance=path, request_id=self.visit.id)
