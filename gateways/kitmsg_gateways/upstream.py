"""What is not on the bus gets on it: the seam that HTTP, gRPC and Thrift upstreams share.

    Instancer    a list of addresses that may change; `fixed` makes one of a plain list
    RoundRobin   picks an address for each call, and avoids one that cannot be reached
    Hooks        before, after, error decoder, finalizer: those of Go kit's clients
    outgoing     what goes along with a call: the time left, trace, request id
    Remote       one endpoint elsewhere: its declaration, and the endpoint that calls it
    Upstream     such endpoints as a service: ``kit.serve(upstream)``, or used in process

A protocol brings its connections, its encoding and its errors, in a subclass of
`Upstream`.  For ``kitmsg upstream KIND ADDRESS... --as NAME`` its module
``kitmsg_gateways.KIND.upstream``, which imports nothing heavy until it is used, has

    UpstreamOptions   a frozen dataclass; its fields are the flags, its docstring their help
    open_upstream     ``async (name, addresses, options) -> Upstream``; a `ValueError` or
                      `KitError` says what is wrong with them

Left out: discovery and balancing beyond a list of addresses.
"""

from __future__ import annotations

import asyncio
import difflib
import logging
import time
from dataclasses import dataclass, field
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    Protocol,
    Self,
    TypeVar,
    runtime_checkable,
)

from kitmsg.discovery.subject import check_version
from kitmsg.endpoints import chain
from kitmsg.errors import DeadlineExceeded, NotFound, Unavailable
from kitmsg.message import check_name
from kitmsg.service import Service
from kitmsg.service.described import described_service
from kitmsg.service.proxy import local_client
from kitmsg.wire import AUTHORIZATION, Meta

if TYPE_CHECKING:
    from collections.abc import (
        Awaitable,
        Callable,
        Collection,
        Iterable,
        Mapping,
        Sequence,
    )
    from types import TracebackType

    from kitmsg.context import Context
    from kitmsg.endpoints import Endpoint, Middleware
    from kitmsg.service.declare import Declaration

__all__ = [
    "CannotConnect",
    "Hooks",
    "Instancer",
    "Outgoing",
    "Remote",
    "RoundRobin",
    "Upstream",
    "fixed",
    "outgoing",
]

_log = logging.getLogger("kitmsg_gateways.upstream")

Q = TypeVar("Q")
A = TypeVar("A")
S = TypeVar("S", bound=Service)
T = TypeVar("T")

CONCURRENCY: Final = 512
"""Calls at once; they wait for a server elsewhere, so it is more than a service's own."""

AVOID_SECONDS: Final = 1.0
"""How long an address is avoided after it could not be reached."""


@runtime_checkable
class Instancer(Protocol):
    """Knows the instances of a service, and tells when they change."""

    def watch(self, changed: Callable[[Sequence[str]], None], /) -> Callable[[], None]:
        """Tell `changed` of all addresses, at once and whenever they change.

        Returns:
            What ends the telling.
        """
        ...


class _Fixed:
    """Addresses that do not change."""

    def __init__(self, addresses: Iterable[str]) -> None:
        self._addresses = tuple(addresses)

    def watch(self, changed: Callable[[Sequence[str]], None], /) -> Callable[[], None]:
        changed(self._addresses)
        return lambda: None


def fixed(addresses: str | Iterable[str]) -> Instancer:
    """Return an instancer of one address or a list of them, for good."""
    return _Fixed([addresses] if isinstance(addresses, str) else addresses)


class CannotConnect(Exception):
    """Nothing of a call was sent, so another instance may have it.

    Raised by what a protocol gives to `RoundRobin.through`; callers never see it.
    """


class RoundRobin:
    """Picks the addresses of an instancer in turn.

    Args:
        name: Name of the service, for messages.
        source: An instancer, an address, or a list of addresses.
        gone: Told of each address that the instancer no longer names, so that its
            connection can be closed.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        name: str,
        source: Instancer | str | Iterable[str],
        *,
        gone: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.addresses: tuple[str, ...] = ()
        self._gone = gone
        self._clock = clock
        self._next = 0
        self._avoided: dict[str, float] = {}
        self._source = source if isinstance(source, Instancer) else fixed(source)
        self._unwatch: Callable[[], None] | None = None
        self._watch()

    def _watch(self) -> None:
        if self._unwatch is None:
            self._unwatch = self._source.watch(self._changed)

    def _changed(self, addresses: Sequence[str]) -> None:
        before, self.addresses = self.addresses, tuple(dict.fromkeys(addresses))
        for address in before:
            if address not in self.addresses:
                self._avoided.pop(address, None)
                if self._gone is not None:
                    self._gone(address)

    def pick(self, tried: Collection[str] = ()) -> str:
        """Return the next address that is not in `tried`.

        One that just failed comes only when there is no other.

        Raises:
            Unavailable: There is none.
        """
        self._watch()
        left = [address for address in self.addresses if address not in tried]
        if not left:
            raise Unavailable(f"{self.name} has no instance that can be reached")
        now = self._clock()
        good = [a for a in left if self._avoided.get(a, now) <= now] or left
        self._next += 1
        return good[self._next % len(good)]

    def failed(self, address: str) -> None:
        """Avoid `address` for a moment: it could not be reached."""
        self._avoided[address] = self._clock() + AVOID_SECONDS

    async def through(self, send: Callable[[str], Awaitable[T]]) -> T:
        """Return what `send` does with an address; the next one where it cannot connect.

        Each address is tried once at most.

        Raises:
            Unavailable: None can be reached.
        """
        tried: list[str] = []
        while True:
            address = self.pick(tried)
            try:
                return await send(address)
            except CannotConnect as exc:
                self.failed(address)
                tried.append(address)
                _log.warning("%s: cannot connect to %s: %s", self.name, address, exc)

    def close(self) -> None:
        """Stop watching, until the next `pick`; connections are their maker's to close."""
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks(Generic[Q, A]):
    """What runs around each call, in Go kit's order.

    Encode, `before`, send, `after`, `error_decoder`, decode, `finalizer`.  The types of
    request and reply are the protocol's.

    Attributes:
        before: See the request before it is sent, and may change it; raising ends the call.
        after: See the reply before it is read, errors too.
        error_decoder: Finds the error in a reply, instead of the protocol's own; None for
            a success.
        finalizer: Run last, whatever happened, with what went wrong or None.
    """

    before: Sequence[Callable[[Context, Q], None]] = ()
    after: Sequence[Callable[[Context, A], None]] = ()
    error_decoder: Callable[[Context, A], Exception | None] | None = None
    finalizer: Sequence[Callable[[Context, BaseException | None], None]] = ()

    def finalized(self, call: Endpoint[Any, T]) -> Endpoint[Any, T]:
        """Return `call` with the finalizers around it."""
        if not self.finalizer:
            return call

        async def run(ctx: Context, request: Any) -> T:
            error: BaseException | None = None
            try:
                return await call(ctx, request)
            except BaseException as exc:
                error = exc
                raise
            finally:
                for hook in self.finalizer:
                    hook(ctx, error)

        return run


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What goes along with a call.

    Attributes:
        timeout: Seconds that are left for it.
        headers: Trace, baggage, ``Kit-Request-Id``, metadata, and ``Authorization`` where
            it is forwarded; a protocol may spell the names in its own way.
    """

    timeout: float
    headers: dict[str, str]


def outgoing(
    ctx: Context, timeout: float, *, forward_authorization: bool = False
) -> Outgoing:
    """Return what goes along with a call that is made on behalf of `ctx`.

    Args:
        ctx: Of the turn that makes the call, or one made by hand.
        timeout: Longest call, in seconds; a nearer deadline of `ctx` wins.
        forward_authorization: Whether the caller's ``Authorization`` goes along.

    Raises:
        DeadlineExceeded: No time is left.
    """
    if ctx.deadline is not None:
        left = ctx.deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise DeadlineExceeded(
                f"no time left to call {ctx.endpoint or 'the upstream'}; it was not sent"
            )
        timeout = min(timeout, left)
    headers = {**ctx.propagated(), **ctx.metadata}
    if forward_authorization and AUTHORIZATION in ctx.headers:
        headers[AUTHORIZATION] = ctx.headers[AUTHORIZATION]
    return Outgoing(timeout, headers)


@dataclass(frozen=True, slots=True)
class Remote:
    """One endpoint elsewhere.

    Attributes:
        declaration: Name, schemas and options; made by `kitmsg.service.described.describe`,
            or the declaration of a typed class.
        call: Does it.  Its request is what the declaration's signature decodes: a plain
            dict, or the typed request.
    """

    declaration: Declaration
    call: Endpoint[Any, Any] = field(repr=False)


class Upstream:
    """Endpoints that a server elsewhere implements, as a service.

    ::

        await kit.serve(upstream)                          # on the bus
        await upstream.endpoint("sum")(current(), {"a": 1})   # in process

    Args:
        name: Name on the bus.
        remotes: The endpoints.
        kind: Protocol that is spoken there, such as ``http``; shown in discovery.
        version: Semantic version; "0.1.0" if empty.
        doc: Description in discovery.
        middleware: Around each call; the first is outermost.
        settings: Attributes of the service on the bus, such as `concurrency`.

    Raises:
        ValueError: `name` or `version` cannot be one on the bus, two endpoints have one
            name, or there is none.
    """

    def __init__(
        self,
        name: str,
        remotes: Iterable[Remote],
        *,
        kind: str,
        version: str = "",
        doc: str = "",
        middleware: Sequence[Middleware] = (),
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = check_name(name, "the upstream")
        self.kind = kind
        self.version = check_version(version or "0.1.0", name)
        self.doc = doc
        self._around = chain(*middleware)
        self._settings = dict(settings or {})
        self.remotes: dict[str, Remote] = {}
        for remote in remotes:
            if self.remotes.setdefault(remote.declaration.name, remote) is not remote:
                raise ValueError(
                    f"{name}: two endpoints are named {remote.declaration.name!r}"
                )
        if not self.remotes:
            raise ValueError(f"{name}: an upstream without endpoints serves nobody")

    def endpoint(self, name: str) -> Endpoint[Any, Any]:
        """Return an endpoint, ready for middleware.

        Raises:
            NotFound: There is none of that name; the message says which there are.
        """
        remote = self.remotes.get(name)
        if remote is None:
            near = difflib.get_close_matches(name, self.remotes, n=1)
            known = ", ".join(self.remotes)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {known}"
            raise NotFound(f"{self.name} has no endpoint {name!r}; {hint}")
        return self._around(remote.call)

    def client(self, service: type[S]) -> S:
        """Return an object with the methods of `service`, carried out there, without a bus.

        Args:
            service: The class that this upstream was made of.

        Raises:
            NotFound: It has an endpoint that this upstream lacks.
        """
        calls = {name: self.endpoint(name) for name in service.__declarations__}
        return local_client(service, calls)

    def __call__(self) -> Service:
        """Return the service that stands for it; so `kit.serve` takes an upstream."""
        return described_service(
            self.name,
            {n: (r.declaration, self.endpoint(n)) for n, r in self.remotes.items()},
            version=self.version,
            doc=self.doc,
            stop=self.close,
            settings={
                "concurrency": CONCURRENCY,
                **self._settings,
                "metadata": {
                    **self._settings.get("metadata", {}),
                    Meta.UPSTREAM: self.kind,
                },
            },
        )

    async def close(self) -> None:
        """Close the connections; a later call opens them again."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
