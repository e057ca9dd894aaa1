"""``POST`` and ``GET /events/{name}``: events published and followed over HTTP."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote

import msgspec
from aiohttp import web

from kitmsg.codec import JSON
from kitmsg.context import PROPAGATED
from kitmsg.errors import DeadlineExceeded, InvalidArgument, NotFound
from kitmsg.events.publish import PUBLISH_SECONDS
from kitmsg.wire import Meta
from kitmsg_gateways.edge.events import EventDoor, read_since
from kitmsg_gateways.http.bind import Parameters
from kitmsg_gateways.http.body import body_limit
from kitmsg_gateways.http.call import asked_timeout, fields_of
from kitmsg_gateways.http.content import choose
from kitmsg_gateways.http.cors import Cors
from kitmsg_gateways.http.errors import Problem, refusal
from kitmsg_gateways.http.events.cloudevents import read_events
from kitmsg_gateways.http.events.forms import (
    GAP,
    EventLines,
    EventSse,
    lines,
    messages,
    sse,
)
from kitmsg_gateways.http.events.reading import Reading
from kitmsg_gateways.http.methods import Mounted
from kitmsg_gateways.http.router import Match, Route
from kitmsg_gateways.http.streams.formats import LAST_EVENT_ID, NDJSON, SSE
from kitmsg_gateways.http.streams.live import Opening
from kitmsg_gateways.http.streams.protocol import is_upgrade
from kitmsg_gateways.http.streams.serve import Download, head
from kitmsg_gateways.http.streams.websocket import Socket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from kitmsg.jetstream import PubAck
    from kitmsg_gateways.edge.calls import Callers
    from kitmsg_gateways.edge.events import Batch, Since
    from kitmsg_gateways.http.options import GatewayOptions
    from kitmsg_gateways.http.streams.formats import Format
    from kitmsg_gateways.http.streams.live import Live
    from kitmsg_gateways.http.visit import Visit

__all__ = ["PREFIX", "Events"]

PREFIX: Final = "/events/"
"""Where the events are; no service's where some are open."""

_ACCEPTED: Final = 202
_SEQUENCE: Final = re.compile(r"\d{1,18}", re.ASCII)
_WORDS: Final = {"true": True, "false": False}
_READS: Final = ("GET", "HEAD")
_NO_PARAMETERS: Final = Parameters({"type": "object", "properties": {}})


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """The part of a log that a request asks for; fields as `EventDoor.follow` takes them."""

    since: Since = None
    after: int | None = None
    where: dict[str, str] = field(default_factory=dict)
    goes_on: bool = True


@dataclass(kw_only=True)
class _Followed(Opening):
    """A request for the log of an event.

    Attributes:
        door: Has the log.
        wanted: The part of it.
        form: Makes pieces of a batch, in the format of the answer.
        gap: A piece that says that events may be missing; b"" for none.
    """

    door: EventDoor
    wanted: _Wanted
    form: Callable[[Batch], Iterator[bytes]]
    gap: bytes = b""

    @contextlib.asynccontextmanager
    async def stream(self, body: bytes = b"") -> AsyncIterator[Reading]:
        """Follow the log until the context ends.  Raises as `EventDoor.follow`."""
        del body
        wanted, visit = self.wanted, self.visit
        async with self.door.follow(
            self.mounted.name,
            since=wanted.since,
            after=wanted.after,
            where=wanted.where,
            goes_on=wanted.goes_on,
            fields=_fields(visit, self.options),
            principal=visit.principal,
        ) as follower:
            yield Reading(follower, self.form, self.gap)

    def problem(
        self, error: BaseException, stream: Any = None, *, is_head: bool = True
    ) -> Problem:
        """Return the problem that stands for an error: to read again does no harm."""
        del stream, is_head
        return Problem.of(self.broken or error, self.visit.id)


class Events:
    """Answers requests for events.

    Args:
        door: The events.
        callers: The gateway's.
        options: Its limits and times.
        live: The streams that are open.
        read: Reads the body of a request.
    """

    def __init__(
        self,
        door: EventDoor,
        callers: Callers,
        options: GatewayOptions,
        live: Live,
        read: Callable[[Visit], Awaitable[bytes]],
    ) -> None:
        self._door = door
        self._callers = callers
        self._options = options
        self._live = live
        self._read = read
        self._cors = Cors(options.cors_origins)
        self._limit = body_limit(callers.bus, options, is_kit=False)

    async def answer(self, visit: Visit, query: str) -> web.StreamResponse:
        """Serve one request.

        Raises:
            Problem: The request is refused.
            KitError: It does not fit, or the store cannot.
        """
        name = unquote(visit.path.removeprefix(PREFIX))
        methods = self._methods(name)
        if not methods:
            raise NotFound(f"there is no event {name[:80]!r} here")
        visit.route = visit.name = f"{PREFIX}{name}"
        method, allow = visit.request.method, ", ".join([*methods, "OPTIONS"])
        if method == "OPTIONS":
            headers = {"Allow": allow, "X-Request-Id": visit.id}
            return web.Response(status=204, headers=headers)
        if method not in methods:
            raise refusal(405, f"{name} takes {allow} here", headers={"Allow": allow})
        if method == "POST":
            return await self._publish(visit, name)
        return await self._follow(visit, name, query)

    def _methods(self, name: str) -> list[str]:
        """Return the methods that an event takes; none for one that is not open."""
        posts = ["POST"] if self._door.may(name, "publish") else []
        return [*(_READS if self._door.may(name, "read") else ()), *posts]

    async def _publish(self, visit: Visit, name: str) -> web.Response:
        started = monotonic()
        headers = visit.request.headers
        asked = asked_timeout(headers) or PUBLISH_SECONDS
        timeout = min(asked, self._options.max_timeout)
        self._door.known(name, "publish")  # before the body is read
        body = await self._read(visit)
        events, is_batch = read_events(headers, body)
        fields = _fields(visit, self._options)
        left = timeout - (monotonic() - started)
        if left <= 0:
            raise DeadlineExceeded("the request took all its time to arrive")
        acks = await self._door.publish(
            name,
            events,
            fields=fields,
            principal=visit.principal,
            timeout=left,
        )
        told: Any = list(map(_told, acks)) if is_batch else _told(acks[0])
        return web.Response(
            status=_ACCEPTED,
            body=msgspec.json.encode(told),
            headers={
                "Content-Type": JSON.content_type,
                "Cache-Control": "no-store",
                "X-Content-Type-Options": "nosniff",
                "X-Request-Id": visit.id,
            },
        )

    async def _follow(self, visit: Visit, name: str, query: str) -> web.StreamResponse:
        request = visit.request
        known = self._door.known(name, "read")
        wanted = self._wanted(visit, query)
        known.template.pattern("", wanted.where)  # which fields there are
        mounted = _mounted(name, known.pattern)
        opening = _Followed(
            callers=self._callers,
            options=self._options,
            visit=visit,
            match=Match(Route("GET", visit.path, (), mounted), {}),
            query=query,
            door=self._door,
            wanted=wanted,
            form=lambda batch: iter(messages(batch, name)),
            unasked=self._unasked(name),
        )
        self._live.admit()
        if is_upgrade(request):
            if "Origin" in request.headers:  # as for any stream
                self._cors.check(visit, "connect")
            return await Socket(self._live, opening, self._limit).run()
        format_ = _format(visit)
        form = sse if format_.media_type == SSE else lines
        opening.form = lambda batch: iter((form(batch, name),))
        opening.gap = GAP if format_.media_type == SSE else b""
        if request.method == "HEAD":
            return web.Response(headers=head(opening, format_))
        async with opening.stream() as reading:
            return await Download(self._live, opening, format_, reading).run()

    def _unasked(self, name: str) -> str:
        """Return what a client is told that sends something to the log of an event."""
        how = (
            f"; publish by POST {PREFIX}{name}"
            if self._door.may(name, "publish")
            else ""
        )
        return f"the log of {name} is only read here: send nothing but pings{how}"

    def _wanted(self, visit: Visit, query: str) -> _Wanted:
        """Return the part of the log that query and headers ask for.

        Raises:
            InvalidArgument: One of them does not fit; it is named.
        """
        given: dict[str, str] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name in given:
                raise InvalidArgument(f"{name} came more than once", field=name)
            given[name] = value
        since = read_since(given.pop("since", ""), self._door.now())
        follow = given.pop("follow", "true").lower()
        if follow not in _WORDS:
            raise InvalidArgument("follow must be true or false", field="follow")
        last = visit.request.headers.get(LAST_EVENT_ID, "")
        if last and not _SEQUENCE.fullmatch(last):
            raise InvalidArgument(
                f"header {LAST_EVENT_ID} must be the id of an event here, a number, not"
                f" {last[:40]!r}",
                field=LAST_EVENT_ID,
            )
        return _Wanted(
            since=since,
            after=int(last) if last else None,
            where=given,
            goes_on=_WORDS[follow],
        )


def _fields(visit: Visit, options: GatewayOptions) -> dict[str, str]:
    """Return request id and trace of a request."""
    fields = fields_of(visit, options)
    return {name: fields[name] for name in PROPAGATED if name in fields}


def _format(visit: Visit) -> Format:
    """Return the format that a client wants.

    Raises:
        Problem: 406; it wants none that we have.
    """
    offers = (NDJSON, SSE)
    accept = ",".join(visit.request.headers.getall("Accept", []))
    chosen = choose(accept, offers)
    if chosen is None:
        raise refusal(
            406,
            f"events come as {' or '.join(offers)}, or over a WebSocket; 'Accept: */*'"
            " takes the first",
            field="Accept",
        )
    return EventSse() if chosen == SSE else EventLines()


def _mounted(name: str, pattern: str) -> Mounted:
    """Return what stands for the log of an event where an endpoint that streams would."""
    return Mounted(
        service="events",
        version="",
        name=name,
        subject=pattern,
        description="",
        metadata={Meta.STREAM: "out"},
        hash="",
        schema={"request": {"type": "object"}},
        parameters=_NO_PARAMETERS,
    )


def _told(ack: PubAck) -> dict[str, Any]:
    return {"sequence": ack.sequence, "duplicate": ack.duplicate}
