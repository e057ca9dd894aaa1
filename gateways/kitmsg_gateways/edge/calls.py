"""A gateway's calls over the bus: one caller for each endpoint, middlewares around it.

Here stand the deadline of a call that came through a door, the name it calls under, the
headers that may cross, and what a stranger may know of an error.  Hot path: `context` and
`EdgeCaller.ask` run for every call.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import itertools
import logging
import os
import re
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn

from kitmsg.auth.allow import denied
from kitmsg.auth.signing import PrincipalSigner
from kitmsg.bus.reach import Site, at_site
from kitmsg.codec import MSGPACK
from kitmsg.context import Context, new_request_id
from kitmsg.endpoints import chain
from kitmsg.errors import (
    BusDenied,
    Code,
    DataLoss,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    KitError,
    NoResponders,
    outward,
)
from kitmsg.middleware.hedge import Hedge, fitting
from kitmsg.transport import gokit
from kitmsg.transport.caller import Caller
from kitmsg.transport.opening import OPEN_TIMEOUT
from kitmsg.transport.replies import decode_error
from kitmsg.transport.traced import around
from kitmsg.wire import (
    CODE,
    CONTENT_TYPE,
    MAX_TIMEOUT,
    PRINCIPAL,
    REQUEST_ID,
    TRACEPARENT,
    direct_subject,
)
from kitmsg_gateways.edge.admission import RETRY_SECONDS
from kitmsg_gateways.edge.given import GivenContext
from kitmsg_gateways.edge.spans import TRACES

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    from kitmsg.auth import Principal
    from kitmsg.bus import Bus
    from kitmsg.codec import Codec
    from kitmsg.discovery.catalog import CatalogEndpoint
    from kitmsg.endpoints import Endpoint, Middleware
    from kitmsg.message import Message
    from kitmsg.transport.stream import Stream
    from kitmsg_gateways.edge.options import CallOptions
    from kitmsg_gateways.edge.routes import RoutedCaller, Routes

__all__ = [
    "Callers",
    "EdgeCaller",
    "add_header",
    "add_trace",
    "has_begun",
    "load_middleware",
    "request_id",
]

_MOST: Final = 4096
_PRINTABLE: Final = re.compile(r"[\x20-\x7e]{1,8190}")
_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")


def request_id(given: str) -> str:
    """Return the request id that a client gave, if it can be one; else a new one."""
    return given if given and _ID.fullmatch(given) else new_request_id()


def add_header(
    fields: dict[str, str], name: str, given: Sequence[str], what: str = ""
) -> None:
    """Add a header that goes to the service as it came.

    Args:
        fields: Gets it.
        name: Its name on the bus.
        given: Its values.
        what: What the client calls it, for the error.

    Raises:
        InvalidArgument: It came more than once, or is not printable ASCII.
    """
    if len(given) > 1 or not _PRINTABLE.fullmatch(given[0]):
        what = what or f"header {name}"
        raise InvalidArgument(
            f"{what} must come once, in printable ASCII",
            field=what.rpartition(" ")[2],
        )
    fields[name] = given[0]


def add_trace(fields: dict[str, str], name: str, given: Sequence[str]) -> None:
    """Add a header of a trace, if it can be passed on.

    A broken trace is dropped, not refused (W3C Trace Context, section 3.2.2).
    """
    value = ",".join(given)
    is_one = len(given) == 1 or name != TRACEPARENT
    if is_one and name in TRACES and _PRINTABLE.fullmatch(value):
        fields[name] = value


class EdgeCaller:
    """The calls of one endpoint that come through a door.

    Its errors are fit for strangers: what is not for them is in the gateway's log, under
    the request id.

    Args:
        caller: Calls the endpoint.
        endpoint: The endpoint.
        middleware: Around each call and each opening of a stream.
        log: The gateway's.
        routed: Calls it by the gateway's rules; None where none is for it.

    Attributes:
        caller: As given; `endpoint`, too.
        name: ``service.endpoint``.
        send: `ask` for a door's hot path, which gives its errors to `explained` itself.
    """

    __slots__ = ("_log", "_open", "_routed", "caller", "endpoint", "name", "send")

    def __init__(
        self,
        caller: Caller,
        endpoint: CatalogEndpoint,
        middleware: Sequence[Middleware],
        log: logging.Logger,
        routed: RoutedCaller | None = None,
    ) -> None:
        self.caller = caller
        self.endpoint = endpoint
        self.name = caller.name
        self._log = log
        self._routed = routed
        to = routed or caller
        wrap = chain(*fitting(middleware, idempotent=endpoint.is_idempotent))
        with at_site(Site(bus=caller.bus)):
            send: Endpoint[bytes, Message] = wrap(to.ask)
        with at_site(Site(bus=caller.bus, is_stream=True)):
            self._open: Endpoint[bytes, Stream] = wrap(to.open)
        if middleware or routed is not None:  # one span over all that they do
            send = around(send, caller.name, endpoint.subject)
        self.send = send

    async def ask(self, ctx: Context, data: bytes) -> Message:
        """Send a request and return its reply, which is no error.

        Raises:
            KitError: The call failed, or the service answered with an error; its `reply`
                has the name and the fields of a declared one.
        """
        try:
            return await self.send(ctx, data)
        except KitError as exc:
            self._raise(ctx, exc)

    async def open(self, ctx: Context, data: bytes) -> Stream:
        """Open a stream.  Raises as `ask`."""
        try:
            return await self._open(ctx, data)
        except KitError as exc:
            self._raise(ctx, exc)

    def publish(self, ctx: Context, data: bytes) -> Coroutine[Any, Any, None] | None:
        """Send a request whose reply nobody waits for.  Raises as `ask`.

        Returns:
            What sends it, to be awaited, where a rule picks the instance; else None.
        """
        if self._routed is not None:
            return self._publish(self._routed, ctx, data)
        try:
            self.caller.publish(ctx, data)
        except KitError as exc:
            self._raise(ctx, exc)
        return None

    async def _publish(self, routed: RoutedCaller, ctx: Context, data: bytes) -> None:
        try:
            await routed.publish(ctx, data)
        except KitError as exc:
            self._raise(ctx, exc)

    def stream_error(self, ctx: Context, stream: Stream, error: KitError) -> KitError:
        """Return what ended a stream: the endpoint's own error, if it was one."""
        if stream.end is not None and stream.error is error:
            found = self.caller.error_in(ctx, stream.end)
            error = found if isinstance(found, KitError) else error
        return self.explained(ctx, error)

    def explained(self, ctx: Context, error: KitError) -> KitError:
        """Return `error` with what a stranger can go by, and no more."""
        id_ = ctx.metadata.get(REQUEST_ID, "")
        if type(error) is NoResponders:
            # Nobody is asked who is there: it would be done for each of a flood of calls.
            error = NoResponders(error.subject, NoResponders.KNOWN).before(self.name)
        elif _is_foreign_text(error):
            # A foreign service often sends the text of its exception.
            text = "%s failed: %s (request id %s)"
            self._log.warning(text, self.name, error, id_, extra=self._named(id_))
            return Internal(
                f"{self.name} failed; the gateway's log says more under request id {id_}",
                request_id=id_,
            )
        elif isinstance(error, BusDenied | DataLoss):
            text = "%s: %s (request id %s)"
            self._log.warning(text, self.name, error, id_, extra=self._named(id_))
        error.request_id = error.request_id or id_
        if error.code is Code.UNAVAILABLE and error.refused:
            error.retry_after = max(error.retry_after or 0, RETRY_SECONDS)
        return outward(error)

    def _named(self, id_: str) -> dict[str, str]:
        """Return the fields of a log line about a call."""
        return {"endpoint": self.name, "request_id": id_}

    def _raise(self, ctx: Context, error: KitError) -> NoReturn:
        told = self.explained(ctx, error)
        if told is error:
            raise error
        raise told from error


def has_begun(error: KitError) -> bool:
    """Tell whether an error is "unavailable" of a call whose work may have begun.

    Proxies and client libraries repeat calls that are unavailable, so a door tells the two
    apart.
    """
    return error.code is Code.UNAVAILABLE and not error.refused


def _is_foreign_text(error: KitError) -> bool:
    """Tell whether an error is a failure that a service tells of which is not kitmsg's."""
    reply = error.reply
    return (
        reply is not None
        and error.code is Code.INTERNAL
        and CODE not in reply.headers
        and bool(reply.header_block)
    )


class _ChosenCaller(Caller):
    """Calls of some instances only, in turn: others serve the subject otherwise."""

    def __init__(
        self,
        service: str,
        instances: Sequence[str],
        bus: Bus,
        subject: str,
        **options: Any,
    ) -> None:
        ids = itertools.cycle(instances)
        self._subjects = (direct_subject(service, id_, subject) for id_ in ids)
        super().__init__(bus, subject, **options)

    @property
    def subject(self) -> str:
        """Subject of the next call, at one of the instances."""
        return next(self._subjects)

    @subject.setter
    def subject(self, _: str) -> None:
        """Take none: each call has its own."""


class Callers:
    """The callers of one gateway, by endpoint.

    Args:
        bus: What carries the calls.
        kind: The gateway's protocol, such as ``http``; it calls as ``gateway.http``.
        options: How long calls take at the most, the middlewares around them, the rules
            that route them, and the key that vouches for callers.

    Attributes:
        bus: As given.
        headers: Headers of clients that rules go by, in lower case.

    Raises:
        InvalidArgument: A middleware or the signing key cannot be loaded.
        FailedPrecondition: A library for signatures is missing.
    """

    def __init__(self, bus: Bus, kind: str, options: CallOptions) -> None:
        self.bus = bus
        self._as = f"gateway.{kind}"
        self._loop: asyncio.AbstractEventLoop | None = None  # of the last call
        self._timeout = options.timeout
        self._breaker = options.breaker
        self._max_timeout = min(options.max_timeout, MAX_TIMEOUT - 1)
        self._middleware = load_middleware(options.middleware)
        self._log = logging.getLogger(f"kitmsg_gateways.{kind}")
        self._callers: dict[str, EdgeCaller] = {}
        self._signer = _signer_of(options)
        self._is_warned = False
        self._routes = _routes_of(bus, options, self._middleware)
        self.headers = options.route_headers

    def of(self, endpoint: CatalogEndpoint) -> EdgeCaller:
        """Return the caller of an endpoint."""
        found = self._callers.get(endpoint.subject)
        if found is not None and found.endpoint is endpoint:
            return found
        if len(self._callers) >= _MOST:  # endpoints that came and went
            self._callers.clear()
        caller = self._caller(endpoint)
        routed = None
        if self._routes is not None:
            at = functools.partial(self._caller_at, endpoint)
            routed = self._routes.of(endpoint, caller, at)
        found = EdgeCaller(caller, endpoint, self._middleware, self._log, routed)
        self._callers[endpoint.subject] = found
        return found

    def _caller(self, endpoint: CatalogEndpoint) -> Caller:
        """Return the caller of those instances that serve an endpoint as it is shown."""
        make, chosen = self._caller_at, endpoint.instances
        if not chosen:
            return make(endpoint, endpoint.subject)
        kind = functools.partial(_ChosenCaller, endpoint.service, chosen)
        return make(endpoint, endpoint.subject, kind)

    def _caller_at(
        self,
        endpoint: CatalogEndpoint,
        subject: str,
        kind: Callable[..., Caller] = Caller,
    ) -> Caller:
        return kind(
            self.bus,
            subject,
            name=f"{endpoint.service}.{endpoint.name}",
            timeout=self._max_timeout,
            open_timeout=OPEN_TIMEOUT,
            error_decoder=_gokit_error if endpoint.wire == "gokit" else None,
            is_kit=endpoint.is_kit,
            breaker=self._breaker,
            counts=False,
        )

    def keep(self, endpoints: Iterable[CatalogEndpoint]) -> None:
        """Forget the callers of endpoints that are not among these.

        Those that have routes follow the instances of their service.
        """
        if self._routes is not None:
            there = {each.subject for each in endpoints}
            kept = {at: one for at, one in self._callers.items() if at in there}
            self._callers = kept

    async def close(self) -> None:
        """Follow the instances of services no more."""
        if self._routes is not None:
            await self._routes.close()

    def given(self, read: Callable[[str], Sequence[str]]) -> Mapping[str, str] | None:
        """Return the headers of a client that rules go by, for `context`.

        Args:
            read: Returns the values of a header, by its name in lower case.

        Raises:
            InvalidArgument: One came more than once, or is not printable ASCII.
        """
        found: dict[str, str] = {}
        for name in self.headers:
            values = read(name)
            if values:
                add_header(found, name, values)
        return found or None

    def seconds(self, asked: float | None, endpoint: CatalogEndpoint) -> float:
        """Return how long a call may take.

        Args:
            asked: Seconds that the client gives; None if it does not say.
            endpoint: Which may declare some.
        """
        return min(asked or endpoint.timeout or self._timeout, self._max_timeout)

    def context(
        self,
        caller: EdgeCaller,
        codec: Codec,
        seconds: float | None,
        fields: dict[str, str],
        principal: Principal | None = None,
        given: Mapping[str, str] | None = None,
    ) -> Context:
        """Return the context of a call.

        Args:
            caller: Of the endpoint.
            codec: How its request is encoded.
            seconds: That are left for it; None for a stream without an end.
            fields: Its headers: ``Kit-Request-Id``, trace and more; the context's from now
                on.
            principal: The client, which this gateway has authenticated; None when
                unknown.
            given: The client's headers that rules go by; see `given`.

        Raises:
            PermissionDenied: The client may not call it.
            DeadlineExceeded: Nothing is left.
        """
        deadline = None
        if seconds is not None:
            if seconds <= 0:
                raise DeadlineExceeded("the request took all its time to arrive")
            loop = self._loop
            # As in `kitmsg.transport.caller`: to ask for it costs 1 us.
            if loop is None or not loop.is_running():
                loop = self._loop = asyncio.get_running_loop()
            deadline = loop.time() + seconds
        fields[CONTENT_TYPE] = codec.content_type
        if principal is not None:
            policy = caller.endpoint.allow
            if policy is not None and not policy.may_permit(principal):
                raise denied(principal, caller.name)
            self._vouch(principal, fields)
        make = Context.of_call
        if given is not None:
            make = functools.partial(GivenContext.of_visit, given)
        return make(
            caller.name,
            caller=self._as,
            deadline=deadline,
            metadata=fields,
            codec=codec,
            principal=principal,
        )

    def _vouch(self, principal: Principal, fields: dict[str, str]) -> None:
        """Tell the service who calls, by a signature that it can check."""
        if self._signer is not None:
            fields[PRINCIPAL] = self._signer.text(principal)
        elif not self._is_warned:
            self._is_warned = True
            self._log.warning(
                "callers are known here, and services are not told who they are: give"
                " the gateway a --signing-key"
            )


def _signer_of(options: CallOptions) -> PrincipalSigner | None:
    """Return what vouches for callers as the options say; None without a key.

    Raises:
        InvalidArgument: There is no key in the file.
        FailedPrecondition: A library is missing.
    """
    if not options.signing_key:
        return None
    return PrincipalSigner(options.signing_key, audience=options.audience)


def _routes_of(
    bus: Bus, options: CallOptions, middleware: Sequence[Middleware]
) -> Routes | None:
    rules = options.route
    if any(isinstance(each, Hedge) for each in middleware):
        rules = (*rules, "direct")  # a hedge is for another instance
    if not rules:
        return None
    from kitmsg_gateways.edge.routes import Routes  # most gateways need no balancer

    return Routes(bus, rules)


def load_middleware(given: Sequence[Middleware | str]) -> tuple[Middleware, ...]:
    """Return middlewares, some of which may be named.

    Args:
        given: Middlewares, and texts such as ``shop.edge:middlewares``: a module and one
            middleware, or a list of them, in it.

    Raises:
        InvalidArgument: A text leads to no middleware.
    """
    found: list[Middleware] = []
    for each in given:
        if not isinstance(each, str):
            found.append(each)
            continue
        value = _imported(each)
        some = value if isinstance(value, list | tuple) else [value]
        for middleware in some:
            if not callable(middleware):
                raise InvalidArgument(
                    f"middleware {each!r}: {middleware!r} is no middleware; it is a"
                    " function that takes an endpoint and returns one"
                )
        found += some
    return tuple(found)


def _imported(text: str) -> Any:
    module, _, name = text.partition(":")
    if not module or not name.isidentifier():
        raise InvalidArgument(
            f"middleware {text!r} is not understood; write module:name, such as"
            " shop.edge:middlewares"
        )
    if os.getcwd() not in sys.path:  # behind everything else: it must shadow nothing
        sys.path.append(os.getcwd())
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as exc:
        raise InvalidArgument(f"middleware {text!r} cannot be loaded: {exc}") from exc
    except AttributeError as exc:
        raise InvalidArgument(
            f"middleware {text!r}: there is no {name!r} in {module}"
        ) from exc


def _gokit_error(ctx: Context, message: Message) -> Exception | None:
    """Return the error in a reply of a Go kit service, or in the headers beside it."""
    error = gokit.decode_error(ctx, message)
    if error is None and message.header_block:
        return decode_error(message, codec=ctx.codec or MSGPACK, declared={})
    if isinstance(error, KitError):
        error.reply = message
    return error
