"""Streams on the bus: opened for an HTTP request, and the registry of those that are open.

One `Live` belongs to a gateway.  Each stream enters it, and gets its heartbeats from it;
when the gateway stops, each is told so and then has `drain_timeout` to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from kitmsg.codec import JSON
from kitmsg.errors import KitError
from kitmsg.metrics.families import counter, gauge
from kitmsg.transport.stream import Stream
from kitmsg.transport.wheel import Wheel
from kitmsg_gateways.edge.admission import full
from kitmsg_gateways.edge.catalogue import unavailable
from kitmsg_gateways.http.call import asked_timeout, fields_of, given_by, problem_of
from kitmsg_gateways.http.errors import Problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from aiohttp import web

    from kitmsg.codec import Codec
    from kitmsg.context import Context
    from kitmsg.message import Message
    from kitmsg.metrics.families import Family
    from kitmsg_gateways.edge.calls import Callers, EdgeCaller
    from kitmsg_gateways.http.methods import Mounted
    from kitmsg_gateways.http.options import GatewayOptions
    from kitmsg_gateways.http.router import Match
    from kitmsg_gateways.http.visit import Visit

__all__ = ["Items", "Live", "Opening", "Party", "drop_if_gone"]


class Items(Protocol):
    """A stream as an answer needs it: items both ways; `Stream` is one."""

    on_item: Callable[[Message], bool] | None

    @property
    def is_open(self) -> bool:
        """Whether it goes on."""
        ...

    @property
    def moved(self) -> int:
        """Items so far."""
        ...

    def __aiter__(self) -> AsyncIterator[Message]: ...

    async def __anext__(self) -> Message: ...

    def push(self, data: bytes) -> bool:
        """Send an item at once; False if it has to wait."""
        ...

    async def send(self, data: bytes) -> None:
        """Send an item when there is room for it."""
        ...

    async def finish(self) -> None:
        """Say that no more items follow."""
        ...

    def cancel(self) -> None:
        """Give it up."""
        ...

    def fail(self, error: KitError) -> None:
        """End it with `error`."""
        ...


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
        unasked: What a client is told that sends an item where none is taken.
    """

    callers: Callers
    options: GatewayOptions
    visit: Visit
    match: Match[Mounted]
    query: str
    codec: Codec = JSON
    broken: BaseException | None = None
    unasked: str = "an item came, and none was to come any more"
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
    async def stream(self, body: bytes = b"") -> AsyncIterator[Items]:
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
            caller,
            self.codec,
            timeout,
            fields,
            self.visit.principal,
            given_by(self.callers, headers),
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
        stream: Items | None = None,
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
        if (
            isinstance(stream, Stream)
            and self.broken is None
            and self._call is not None
        ):
            caller, ctx = self._call
            error = caller.stream_error(ctx, stream, error)
        return problem_of(error, self.mounted, self.codec, is_head=is_head)

    def problem_body(self, problem: Problem) -> bytes:
        """Return the JSON document of a problem of this request."""
        return problem.body(instance=self.visit.path, request_id=self.visit.id)


def drop_if_gone(transport: asyncio.BaseTransport | None) -> None:
    """End a connection that the other side has left.

    One that is not read from, because nobody takes what comes, does not notice.
    """
    socket = transport.get_extra_info("socket") if transport is not None else None
    if socket is None or not isinstance(transport, asyncio.WriteTransport):
        return
    if not hasattr(select, "poll"):  # Windows
        return
    poll = select.poll()
    poll.register(socket.fileno(), getattr(select, "POLLRDHUP", 0))
    if poll.poll(0):
        transport.abort()


class Party(Protocol):
    """One open stream."""

    kind: str
    """How its client sees it: ``sse``, ``ndjson``, ``bytes``, ``upload``, ``websocket``."""

    def beat(self) -> None:
        """Show the client that we are there, and find out whether it is."""
        ...

    def leave(self) -> None:
        """End, soon: the gateway stops."""
        ...


class Live:
    """The open streams.

    Args:
        most: How many there may be; more are refused.
        beat_seconds: Time between two heartbeats of each.

    Attributes:
        is_draining: Whether the gateway stops.
        ended: How many ended, by kind and outcome: ``ok``, the code of an error, or
            ``client`` for those whose client did not keep the protocol or went away.
    """

    def __init__(self, most: int, beat_seconds: float) -> None:
        self.is_draining = False
        self.ended: Counter[tuple[str, str]] = Counter()
        self._most = most
        self._beat_seconds = beat_seconds
        self._open: dict[Party, None] = {}
        self._wheel: Wheel[Party] | None = None

    def __len__(self) -> int:
        return len(self._open)

    def admit(self) -> None:
        """Make sure that there is room for one more.

        Raises:
            ResourceExhausted: There is none.
            Unavailable: The gateway stops.
        """
        if self.is_draining:
            raise unavailable("the gateway is stopping")
        if len(self._open) >= self._most:
            raise full(self._most, "streams are open")

    def enter(self, party: Party) -> None:
        """Count a stream, and give it heartbeats."""
        if self._wheel is None:
            self._wheel = Wheel(self._beat_seconds, _beat)
        self._open[party] = None
        self._wheel.add(party)
        if self.is_draining:
            party.leave()

    def exit(self, party: Party, outcome: str) -> None:
        """Count a stream that is over; see `ended`."""
        if self._wheel is not None and party in self._open:
            del self._open[party]
            self._wheel.remove(party)
            self.ended[party.kind, outcome] += 1

    def drain(self) -> None:
        """Take no more, and tell each that the gateway stops."""
        self.is_draining = True
        for party in list(self._open):
            party.leave()

    def collect(self) -> Iterator[Family]:
        """Yield metric families."""
        now = Counter(party.kind for party in self._open)
        present = gauge("kitmsg_gateway_streams", "Streams that are open.")
        for kind, count in sorted(now.items()):
            present.add(count, gateway="http", kind=kind)
        yield present
        past = counter(
            "kitmsg_gateway_streams_ended_total",
            "Streams that ended: well, with an error, or by their client.",
        )
        for (kind, outcome), count in sorted(self.ended.items()):
            past.add(count, gateway="http", kind=kind, outcome=outcome)
        yield past


def _beat(party: Party) -> None:
    party.beat()
