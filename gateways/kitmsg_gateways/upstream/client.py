"""Go kit's client phases: encode, before, send, after, error decoder, decode, finalizer.

A protocol has two things of its own: a `Transport` that owns its connections, and a
`Method` for each endpoint that encodes its requests and decodes its replies.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    Protocol,
    TypeVar,
    runtime_checkable,
)

from kitmsg.balance.named import parse_picker
from kitmsg.errors import DeadlineExceeded, Unimplemented
from kitmsg.tracing import current_headers, tracer
from kitmsg.wire import AUTHORIZATION, B3, IDEMPOTENCY_KEY, REQUEST_ID, TRACE
from kitmsg_gateways.upstream.counts import counted
from kitmsg_gateways.upstream.items import Items
from kitmsg_gateways.upstream.offers import only
from kitmsg_gateways.upstream.pool import Pool
from kitmsg_gateways.upstream.spans import note_address, note_reply, spanned
from kitmsg_gateways.upstream.upstream import Remote

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable

    from kitmsg.balance import Picker
    from kitmsg.balance.routes import Key
    from kitmsg.context import Context
    from kitmsg.endpoints import Endpoint
    from kitmsg.schema.calls import StreamRequest
    from kitmsg.service.declare import Declaration
    from kitmsg_gateways.upstream.hooks import Hooks
    from kitmsg_gateways.upstream.instancer import Instancer
    from kitmsg_gateways.upstream.options import CommonOptions

__all__ = ["Client", "Method", "Outgoing", "Replies", "Transport", "outgoing"]

Q = TypeVar("Q")
A = TypeVar("A")
M = TypeVar("M", bound="Method[Any, Any]")
Q_co = TypeVar("Q_co", covariant=True)
A_co = TypeVar("A_co", covariant=True)
Q_contra = TypeVar("Q_contra", contravariant=True)
A_contra = TypeVar("A_contra", contravariant=True)
M_contra = TypeVar("M_contra", bound="Method[Any, Any]", contravariant=True)


_WEB: Final = {REQUEST_ID: "X-Request-Id", IDEMPOTENCY_KEY: "Idempotency-Key"}
_TRACES: Final = frozenset((*TRACE, *B3))
_PRINTABLE: Final = re.compile(r"[\x20-\x7e]{1,8190}")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Metadata and deadline of an outgoing call.

    Attributes:
        timeout: Seconds that are left for it.
        headers: Trace, baggage, ``Kit-Request-Id``, metadata, and ``Authorization`` where
            it is forwarded; a protocol may spell the names in its own way.
    """

    timeout: float
    headers: dict[str, str]

    def web_headers(self) -> dict[str, str]:
        """Return the headers that are printable ASCII; the id is ``X-Request-Id``."""
        return {
            _WEB.get(name, name): value
            for name, value in self.headers.items()
            if _PRINTABLE.fullmatch(value)
        }


def outgoing(
    ctx: Context, timeout: float, *, forward_authorization: bool = False
) -> Outgoing:
    """Return metadata and deadline of a call on behalf of `ctx`.

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
    traces = current_headers()
    if traces:  # of the call's own span; what came passes on otherwise
        headers = {
            n: v for n, v in headers.items() if n.lower() not in _TRACES
        } | traces
    if IDEMPOTENCY_KEY in ctx.headers:
        headers[IDEMPOTENCY_KEY] = ctx.headers[IDEMPOTENCY_KEY]
    if forward_authorization and AUTHORIZATION in ctx.headers:
        headers[AUTHORIZATION] = ctx.headers[AUTHORIZATION]
    return Outgoing(timeout, headers)


class Method(Protocol[Q_co, A_contra]):
    """One endpoint of a server, in the protocol's terms."""

    @property
    def declaration(self) -> Declaration:
        """Name, schemas and options on the bus."""
        ...

    def encode(self, request: Any, /) -> Q_co:
        """Return the protocol's request; `InvalidArgument` if it has no form there."""
        ...

    def error(self, reply: A_contra, /) -> Exception | None:
        """Return the error in a reply; None for a success."""
        ...

    def decode(self, reply: A_contra, /) -> Any:
        """Return the result in a reply, or one item of it; `DataLoss` if there is none."""
        ...


@runtime_checkable
class Replies(Protocol[A_co]):
    """A reply that streams: one protocol's reply for each item."""

    @property
    def head(self) -> A_co | None:
        """A beginning that is a reply by itself: `Hooks.after` sees it, not each item."""
        ...

    def __aiter__(self) -> AsyncIterator[A_co]: ...

    async def aclose(self) -> None:
        """Close the stream, read to its end or not."""
        ...


class Transport(Protocol[M_contra, Q_contra, A_co]):
    """Connections to the servers of an upstream, opened when they are first needed."""

    def propagate(
        self, request: Q_contra, along: Outgoing, *, is_endless: bool
    ) -> None:
        """Write headers and deadline into a request; nothing by default.

        `is_endless`: it opens a stream without a deadline.
        """
        return  # so that it is not abstract

    async def send(
        self, address: str, method: M_contra, request: Q_contra, limit: float
    ) -> A_co:
        """Return the reply to a request, be it an error, in `limit` seconds.

        Raises:
            CannotConnect: There is no connection, so nothing was sent.
            DeadlineExceeded: Time ran out.
            Unavailable: The connection broke; the server may have done the work.
        """
        ...

    async def stream(
        self,
        address: str,
        method: M_contra,
        request: Q_contra,
        limit: float | None,
        items: AsyncIterator[Any] | None,
    ) -> A_co | Replies[A_co]:
        """Return the reply where items are sent or received; errors as in `send`.

        `limit` is None without a deadline, `items` None where the caller streams none.

        Raises:
            Unimplemented: The protocol has no streams, as by default.
        """
        raise Unimplemented(f"{method.declaration.subject}: the server has no streams")

    async def close(self, address: str = "") -> None:
        """Close the connections to one address, or all; a later call opens them again."""
        ...


class Client(Generic[M, Q, A]):
    """Makes endpoints of the methods of a server.

    Args:
        name: Of the upstream, for messages.
        addresses: Where the server is.
        transport: Connections to it.
        options: Times, and the endpoints that are wanted; whether ``Authorization`` is
            forwarded, where the protocol has that option.
        hooks: Run around each call.
        pick: Picks the server of a call; as the options say by default.
        key: Returns the key of a request, for pickers that go by one.
    """

    def __init__(
        self,
        name: str,
        addresses: Instancer,
        transport: Transport[M, Q, A],
        options: CommonOptions,
        hooks: Hooks[Q, A],
        *,
        pick: Picker | None = None,
        key: Key | None = None,
    ) -> None:
        named = parse_picker(options.pick)
        self._key = key if pick is not None else named.key
        self._transport = transport
        self._name = name
        self._only = options.only
        self._timeout = options.timeout
        self._forwards = getattr(options, "forward_authorization", False)
        self._hooks = hooks
        self._is_traced = tracer() is not None
        self._servers = Pool(
            name, addresses, pick=pick or named.picker, gone=transport.close
        )

    def remotes(self, methods: Iterable[M]) -> list[Remote]:
        """Return the endpoints of some methods.

        Raises:
            ValueError: The options name one that is not among them.
        """
        found = list(methods)
        if self._only:
            named = {each.declaration.name: each for each in found}
            found = only(named, self._only, self._name)
        return [Remote(each.declaration, self.endpoint(each)) for each in found]

    def endpoint(self, method: M) -> Endpoint[Any, Any]:
        """Return the endpoint that calls a method."""
        is_stream = bool(method.declaration.signature.stream)
        make = self._streaming if is_stream else self._unary
        call = self._hooks.finalized(make(method))
        name = self._dotted(method)
        return spanned(counted(call, name), method, name)

    def _unary(self, method: M) -> Endpoint[Any, Any]:
        async def call(ctx: Context, request: Any) -> Any:
            sent, seconds = self._request(ctx, method, request)
            loop = asyncio.get_running_loop()
            end = loop.time() + seconds

            async def send(address: str) -> A:
                left = end - loop.time()
                if self._is_traced:
                    note_address(address)
                return await self._transport.send(address, method, sent, left)

            key = "" if self._key is None else self._key(ctx, request)
            name = self._dotted(method)
            reply = await self._servers.through(send, name, ctx, key)
            return self._result(ctx, method, reply)

        return call

    def _streaming(self, method: M) -> Endpoint[Any, Any]:
        """Return the endpoint of a method that takes items, or gives them."""

        async def call(ctx: Context, request: StreamRequest) -> Any:
            sent, seconds = self._request(ctx, method, request.request)
            limit = None if ctx.deadline is None else seconds

            async def send(address: str) -> A | Replies[A]:
                if self._is_traced:
                    note_address(address)
                return await self._transport.stream(
                    address, method, sent, limit, request.items
                )

            key = "" if self._key is None else self._key(ctx, request)
            name = self._dotted(method)
            reply = await self._servers.through(send, name, ctx, key)
            if isinstance(reply, Replies):
                return self._closing(ctx, method, reply)
            return self._result(ctx, method, reply)

        return call

    def _dotted(self, method: M) -> str:
        """Return the dotted name of a method's endpoint on the bus.

        Not the context's: where a service calls the endpoint itself, that one is its own,
        which has begun.
        """
        return f"{self._name}.{method.declaration.name}"

    def _request(self, ctx: Context, method: M, request: Any) -> tuple[Q, float]:
        """Return the request to send, and the seconds for it."""
        sent = method.encode(request)
        timeout = method.declaration.options.timeout or self._timeout
        along = outgoing(ctx, timeout, forward_authorization=self._forwards)
        is_endless = ctx.deadline is None and bool(method.declaration.signature.stream)
        self._transport.propagate(sent, along, is_endless=is_endless)
        for hook in self._hooks.before:
            hook(ctx, sent)
        return sent, along.timeout

    def _after(self, ctx: Context, reply: A) -> None:
        if self._is_traced:
            note_reply(reply)
        for hook in self._hooks.after:
            hook(ctx, reply)

    def _result(self, ctx: Context, method: M, reply: A) -> Any:
        self._after(ctx, reply)
        return self._decoded(ctx, method, reply)

    def _decoded(self, ctx: Context, method: M, reply: A) -> Any:
        find = self._hooks.error_decoder
        error = method.error(reply) if find is None else find(ctx, reply)
        if error is not None:
            raise error
        return method.decode(reply)

    def _closing(self, ctx: Context, method: M, replies: Replies[A]) -> Items[Any]:
        """Return the items of a reply, which is closed at their end, read or not."""
        items = self._items(ctx, method, replies)

        async def close() -> None:
            try:
                await items.aclose()
            finally:
                await replies.aclose()

        return Items(items, _ended, close)

    async def _items(
        self, ctx: Context, method: M, replies: Replies[A]
    ) -> AsyncGenerator[Any, None]:
        head = replies.head
        if head is not None:
            self._after(ctx, head)
        async for reply in replies:
            if head is None:
                self._after(ctx, reply)
            yield self._decoded(ctx, method, reply)

    async def close(self) -> None:
        """Close the connections; a later call opens them again."""
        await self._servers.close()
        await self._transport.close()


def _ended(_error: BaseException | None, _count: int) -> None:
    """Note nothing: hooks, counts and spans, which stand around it, do."""
