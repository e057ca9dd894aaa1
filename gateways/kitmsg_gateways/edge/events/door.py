"""`EventDoor`: the events that are open to clients of a gateway, published and followed.

One belongs to a gateway.  It knows an event by what services on the bus say of it, and goes
on knowing it when they have left: an event is stored whether or not anybody is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import functools
import logging
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from kitmsg.bus.reach import Site, at_site
from kitmsg.codec import JSON
from kitmsg.context import PROPAGATED, Context
from kitmsg.endpoints import chain
from kitmsg.errors import (
    AlreadyExists,
    DeadlineExceeded,
    Disconnected,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from kitmsg.events.publish import PUBLISH_SECONDS
from kitmsg.events.spans import sending, traced_headers
from kitmsg.events.stream import PREFIX
from kitmsg.jetstream.opening import jetstream_of
from kitmsg.middleware.hedge import fitting
from kitmsg.wire import CE_SOURCE
from kitmsg_gateways.edge.admission import RETRY_SECONDS
from kitmsg_gateways.edge.events.feed import Feed
from kitmsg_gateways.edge.events.follower import Follower
from kitmsg_gateways.edge.events.known import Known
from kitmsg_gateways.edge.events.requests import Following, Publishing

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Collection,
        Iterable,
        Mapping,
        Sequence,
    )

    from kitmsg.auth import Principal
    from kitmsg.bus import Bus
    from kitmsg.discovery.events import CatalogEvent
    from kitmsg.endpoints import Endpoint, Middleware
    from kitmsg.errors import KitError
    from kitmsg.jetstream import Outgoing, PubAck, Stream
    from kitmsg_gateways.edge.events.posted import Posted
    from kitmsg_gateways.edge.events.since import Since
    from kitmsg_gateways.edge.options import EventOptions

__all__ = ["EventDoor"]

_log = logging.getLogger("kitmsg_gateways.events")

_MORE_HEADERS: Final = 1024  # bytes, for what the store's client adds
_GRACE_SECONDS: Final = 10.0  # for a fleet that starts beside its gateway
_PAGES: Final = 16  # pages of logs that are read at a time
_AUTH_ID: Final = "ce-authid"
_AUTH_TYPE: Final = "ce-authtype"  # CloudEvents' "Auth Context" extension
_AUTH_TYPES: Final = {"key": "api_key", "service": "service_account"}


class EventDoor:
    """The open events of one gateway.

    Args:
        bus: Where the store is.
        options: Which events are open.
        middleware: Around each request to publish, and around the opening of a log.
        kind: The gateway's protocol, such as ``http``.

    Attributes:
        names: Names of the open events.
    """

    def __init__(
        self,
        bus: Bus,
        options: EventOptions,
        *,
        middleware: Sequence[Middleware] = (),
        kind: str = "",
    ) -> None:
        self._may = {mode: options.opens(mode) for mode in ("publish", "read")}
        self.names = self._may["publish"] | self._may["read"]
        self._bus = bus
        self._middleware = fitting(middleware, idempotent=False)
        self._caller = f"gateway.{kind}"
        # Wrapped in the middlewares once for each event: they have a state.
        self._endpoints: dict[tuple[str, str], Endpoint[Any, Any]] = {}
        self._jetstream = jetstream_of(bus)
        self._known: dict[str, Known] = {}
        self._hidden: frozenset[str] = frozenset()
        self._read: dict[str, CatalogEvent] = {}
        self._feeds: dict[str, Feed] = {}
        self._slots = asyncio.Semaphore(_PAGES)
        self._told: set[str] = set()
        self._there: frozenset[str] = frozenset()
        # Runs while an open event is unknown that may only be late.
        self._grace: asyncio.TimerHandle | None = None
        self._is_closed = False

    # -- which events there are

    def learn(
        self, found: Iterable[CatalogEvent], hidden: Collection[str] = ()
    ) -> None:
        """Note what services say of the open events; those that left stay known.

        An event that is unknown ten seconds later is warned of: its name may be wrong.

        Args:
            found: The events of which clients may know.
            hidden: Names of those that exist, and are for nobody here.
        """
        there = {event.name: event for event in found}
        self._hidden = self.names & frozenset(hidden)
        for name in self._hidden:
            self._end(name, _closed(name))
        for name in self.names & there.keys():
            if self._read.get(name) == there[name]:
                continue
            self._read[name] = there[name]
            try:
                known = Known(there[name])
            except ValueError as error:
                self._warn(f"the event {name} is not open: {error}")
                continue
            before = self._known.get(name)
            self._known[name] = known
            if before is not None and before.key != known.key:
                self._end(name, _moved(name))
        self._there = frozenset(there)
        if self._unknown() and self._grace is None and not self._is_closed:
            loop = asyncio.get_running_loop()
            self._grace = loop.call_later(_GRACE_SECONDS, self._warn_of_unknown)

    def may(self, name: str, mode: str) -> bool:
        """Tell whether an event is open for ``publish`` or ``read``."""
        return name in self._may[mode] and name not in self._hidden

    def known(self, name: str, mode: str) -> Known:
        """Return an open event.

        Args:
            name: Its name.
            mode: ``publish`` or ``read``.

        Raises:
            NotFound: It is not open.
            PermissionDenied: It is open for the other only.
            Unavailable: No service has said yet what it is.
        """
        if name not in self.names - self._hidden:
            raise _closed(name)
        if not self.may(name, mode):
            raise PermissionDenied(f"the event {name} is not open to {mode}")
        found = self._known.get(name)
        if found is None:
            raise Unavailable(
                f"no service on the bus has said what the event {name} is; it publishes or"
                " subscribes to it",
                retry_after=RETRY_SECONDS,
            )
        return found

    def listed(self) -> list[Known]:
        """Return the open events that are known, by name."""
        return [self._known[n] for n in sorted(self._known) if n not in self._hidden]

    def _unknown(self) -> list[str]:
        return sorted(self.names - self._hidden - self._known.keys())

    def _warn_of_unknown(self) -> None:
        """Warn of the open events that no service has spoken of in all the grace."""
        self._grace = None
        for name in self._unknown():
            near = difflib.get_close_matches(name, self._there, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            self._warn(
                f"no service on the bus publishes or subscribes to {name!r}{hint}"
            )

    def _warn(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            _log.warning("%s", sentence)

    # -- calls

    def _endpoint(
        self, mode: str, name: str, work: Callable[[str, Context, Any], Awaitable[Any]]
    ) -> Endpoint[Any, Any]:
        """Return `work` on the event `name` with the middlewares around."""
        found = self._endpoints.get((mode, name))
        if found is None:
            with at_site(Site(bus=self._bus, is_stream=mode == "read")):
                found = chain(*self._middleware)(functools.partial(work, name))
            self._endpoints[mode, name] = found
        return found

    def _context(
        self,
        name: str,
        fields: Mapping[str, str],
        principal: Principal | None,
        seconds: float | None,
    ) -> Context:
        now = asyncio.get_running_loop().time()
        return Context.of_call(
            f"events.{name}",
            caller=self._caller,
            deadline=None if seconds is None else now + seconds,
            metadata=dict(fields),
            codec=JSON,
            principal=principal,
        )

    # -- publishing

    async def publish(
        self,
        name: str,
        events: Sequence[Posted],
        *,
        fields: Mapping[str, str],
        principal: Principal | None = None,
        timeout: float | None = None,
    ) -> list[PubAck]:
        """Store events of one name; returns the stream's word for each, in order.

        All are checked before the first one is stored.  Where some are stored and one is
        not, all may be published again: their ids say which are known.

        Args:
            name: Of the event.
            events: They.
            fields: Header fields that go with each: request id and trace.
            principal: Who publishes; None when unknown.
            timeout: Longest time for all, in seconds.

        Raises:
            NotFound: There is no such event here; others as `known`.
            InvalidArgument: One does not fit, naming the field; nothing is stored.
            AlreadyExists: The stream has an event of that id from another source.
            ResourceExhausted: The stream is full.
            Unavailable: There is no stream, or no store.
            DeadlineExceeded: No word in time; they may be stored.
        """
        self.known(name, "publish")
        seconds = PUBLISH_SECONDS if timeout is None else timeout
        ctx = self._context(name, fields, principal, seconds)
        call = self._endpoint("publish", name, self._publish)
        acks: list[PubAck] = await call(ctx, Publishing(events))
        return acks

    async def _publish(
        self, name: str, ctx: Context, request: Publishing
    ) -> list[PubAck]:
        known, events = self.known(name, "publish"), request.events
        fields = {n: v for n, v in ctx.metadata.items() if n in PROPAGATED}
        left = ctx.remaining(asyncio.get_running_loop().time())
        with sending(name):
            more = traced_headers(fields | _who(ctx.principal))
            messages = [known.outgoing(each, more) for each in events]
            self._check_sizes(messages, events)
            seconds = PUBLISH_SECONDS if left is None else left
            acks = await self._stored(known, messages, seconds)
        await self._check_sources(known, acks, events)
        return acks

    async def _stored(
        self, known: Known, messages: list[Outgoing], seconds: float
    ) -> list[PubAck]:
        try:
            async with asyncio.timeout(seconds):
                if len(messages) != 1:
                    return await self._jetstream.publish_many(messages, timeout=seconds)
                (one,) = messages
                ack = await self._jetstream.publish(
                    one.subject,
                    one.data,
                    one.headers,
                    message_id=one.message_id,
                    timeout=seconds,
                )
                return [ack]
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"no word from the stream in {seconds:g} s; it does no harm to publish"
                f" {known.name} again with the same id"
            ) from error
        except Disconnected:
            raise
        except (Unavailable, FailedPrecondition) as error:
            _log.warning("the event %s cannot be stored: %s", known.name, error)
            raise Unavailable(
                f"no stream takes the event {known.name} now",
                retry_after=RETRY_SECONDS,
            ) from error

    def _check_sizes(self, messages: list[Outgoing], events: Sequence[Posted]) -> None:
        most = self._bus.max_payload
        for message, posted in zip(messages, events, strict=True):
            if len(message.data) + len(message.headers or b"") > most - _MORE_HEADERS:
                raise posted.refusal("data", f"is too long: {most} bytes are the most")

    async def _check_sources(
        self, known: Known, acks: list[PubAck], events: Sequence[Posted]
    ) -> None:
        """Refuse an event that was taken for one of somebody else's, and so not stored."""
        pairs = zip(acks, events, strict=True)
        doubtful = [(ack.sequence, posted) for ack, posted in pairs if ack.duplicate]
        if doubtful:
            stream = await self._jetstream.stream(known.stream)
            await asyncio.gather(*(self._check_source(stream, *d) for d in doubtful))

    async def _check_source(
        self, stream: Stream, sequence: int, posted: Posted
    ) -> None:
        try:
            async with self._slots:
                stored = await stream.get(sequence, fresh=True)
        except NotFound:
            return  # it was there
        if stored.headers.get(CE_SOURCE, "") != posted.source:
            raise AlreadyExists(
                f"{posted.place or 'the event'}: id {posted.id!r} was used by another"
                " source a moment ago; give each event an id of its own"
            )

    # -- following

    @contextlib.asynccontextmanager
    async def follow(
        self,
        name: str,
        *,
        since: Since = None,
        after: int | None = None,
        where: Mapping[str, str] | None = None,
        goes_on: bool = True,
        fields: Mapping[str, str] | None = None,
        principal: Principal | None = None,
    ) -> AsyncIterator[Follower]:
        """Follow the log of an event.

        Args:
            name: Of the event.
            since: A sequence, a time in unix seconds, or None for from now on.
            after: Sequence of the last event that was read; goes before `since`.
            where: Values of fields that are in the subject.
            goes_on: Whether to go on with what comes, at the end of the log.
            fields: Request id and trace of the client's request.
            principal: Who follows; None when unknown.

        Raises:
            NotFound: There is no such event here; others as `known`.
            InvalidArgument: `where` names no field of the subject.
            Unavailable: There is no stream, or no store.
        """
        self.known(name, "read")
        request = Following(
            since=since, after=after, where=where or {}, goes_on=goes_on
        )
        ctx = self._context(name, fields or {}, principal, None)
        try:
            yield await self._endpoint("read", name, self._open)(ctx, request)
        finally:
            for feed in request.opened:
                self._leave(name, feed)

    async def _open(self, name: str, ctx: Context, request: Following) -> Follower:
        del ctx
        known = self.known(name, "read")
        pattern = known.template.pattern(PREFIX, known.values(request.where))
        feed = self._feeds.get(name)
        if feed is None or feed.error is not None:
            feed = self._feeds[name] = Feed(
                self._bus, self._jetstream, known.stream, known.pattern, self._slots
            )
        feed.followers += 1
        request.opened.append(feed)
        await feed.start()
        follower = Follower(feed, pattern, goes_on=request.goes_on)
        await follower.begin(request.since, request.after)
        return follower

    def _leave(self, name: str, feed: Feed) -> None:
        feed.followers -= 1
        if not feed.followers:
            feed.end(_moved(name))
            if self._feeds.get(name) is feed:
                del self._feeds[name]

    def now(self) -> float:
        """Return the time that `since` counts from, in unix seconds."""
        return self._jetstream.now()

    def close(self) -> None:
        """End all that follows."""
        self._is_closed = True
        if self._grace is not None:
            self._grace.cancel()
        for name in list(self._feeds):
            self._end(name, Unavailable("the gateway is stopping; come back"))

    def _end(self, name: str, error: KitError) -> None:
        feed = self._feeds.pop(name, None)
        if feed is not None:
            feed.end(error)


def _who(principal: Principal | None) -> dict[str, str]:
    """Return the attributes that say who published an event."""
    if principal is None:
        return {}
    kind = _AUTH_TYPES.get(principal.method, "unknown")
    return {_AUTH_TYPE: kind, _AUTH_ID: quote(principal.name, safe="@:/+=,;!$&'()*")}


def _closed(name: str) -> NotFound:
    return NotFound(f"there is no event {name[:80]!r} here")


def _moved(name: str) -> Unavailable:
    return Unavailable(f"the event {name} is stored elsewhere now; come back")
