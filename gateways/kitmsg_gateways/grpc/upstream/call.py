"""Calls of a gRPC service elsewhere: what an endpoint of an upstream does.

Order of things, as in Go kit: encode, before, send, after, error decoder, decode, finalizer.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, Any, Final

from kitmsg.errors import DataLoss, error_for
from kitmsg.wire import REQUEST_ID
from kitmsg_gateways.grpc.upstream.client import GrpcReply, GrpcRequest, stream, unary
from kitmsg_gateways.upstream import outgoing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from kitmsg.context import Context
    from kitmsg.endpoints import Endpoint
    from kitmsg.schema.calls import StreamRequest
    from kitmsg_gateways.grpc.upstream.client import Channels
    from kitmsg_gateways.grpc.upstream.offer import Offer
    from kitmsg_gateways.grpc.upstream.options import UpstreamOptions
    from kitmsg_gateways.upstream import Hooks, RoundRobin

__all__ = ["Calls"]

_log = logging.getLogger("kitmsg_gateways.grpc")

_PRINTABLE: Final = re.compile(r"[\x20-\x7e]{1,8190}")
_KEY: Final = re.compile(r"[0-9a-z_.-]+")

# Any INTERNAL, and UNKNOWN where a Python server tells of an exception.
_LEAKS: Final = re.compile(r"13 |2 (Unexpected <class|Exception (calling|iterating))")
_LEAST_SECONDS: Final = 0.001


class Calls:
    """Makes the endpoints of one upstream.

    Args:
        pool: Picks the address of each call.
        channels: Connections.
        options: Limits, times, credentials.
        hooks: Run around each call.
    """

    def __init__(
        self,
        pool: RoundRobin,
        channels: Channels,
        options: UpstreamOptions,
        hooks: Hooks[GrpcRequest, GrpcReply],
    ) -> None:
        self._pool = pool
        self._channels = channels
        self._options = options
        self._hooks = hooks
        self._fixed = options.fixed_metadata()

    def endpoint(self, offer: Offer) -> Endpoint[Any, Any]:
        """Return the endpoint that calls what is offered."""
        kind = offer.declaration.signature.stream
        make = {"": self._unary, "in": self._one_of_stream}.get(kind, self._stream)
        return self._hooks.finalized(make(offer))

    def _unary(self, offer: Offer) -> Endpoint[Any, Any]:
        timeout = offer.declaration.options.timeout or self._options.timeout
        encode, wants_trailers = offer.encode, bool(self._hooks.after)

        async def call(ctx: Context, request: Any) -> Any:
            data = encode(request) if encode is not None else b""
            sent, seconds = self._request(ctx, offer, data, timeout)
            loop = asyncio.get_running_loop()
            end = loop.time() + seconds

            async def send(address: str) -> GrpcReply:
                channel = await self._channels.ready(address)
                left = max(_LEAST_SECONDS, end - loop.time())
                return await unary(channel, sent, left, wants_trailers=wants_trailers)

            return self._read(ctx, offer, await self._pool.through(send))

        return call

    def _one_of_stream(self, offer: Offer) -> Endpoint[Any, Any]:
        open_ = self._stream(offer)

        async def call(ctx: Context, request: StreamRequest) -> Any:
            results = await open_(ctx, request)
            try:
                async for result in results:
                    return result
            finally:
                await results.aclose()
            raise DataLoss(f"{offer.path} ended without a result")

        return call

    def _stream(self, offer: Offer) -> Endpoint[Any, Any]:
        async def call(ctx: Context, request: StreamRequest) -> Any:
            data = b"" if offer.encode is None else offer.encode(request.request)
            takes = offer.item is not None
            sent, seconds = self._request(
                ctx, offer, b"" if takes else data, self._options.timeout
            )
            timeout = None if ctx.deadline is None else seconds
            channel = await self._pool.through(self._channels.ready)
            messages = _Messages(offer, data, request.items) if takes else None
            replies = stream(channel, sent, messages, timeout)
            return self._results(ctx, offer, replies, messages)

        return call

    async def _results(
        self,
        ctx: Context,
        offer: Offer,
        replies: AsyncGenerator[GrpcReply, None],
        messages: _Messages | None,
    ) -> AsyncIterator[Any]:
        try:
            async for reply in replies:
                yield self._read(ctx, offer, reply)
        except asyncio.CancelledError:
            # gRPC cancels a call whose messages fail; what failed says more.
            if messages is not None and messages.error is not None:
                raise messages.error from None
            raise
        finally:
            await replies.aclose()

    def _request(
        self, ctx: Context, offer: Offer, data: bytes, timeout: float
    ) -> tuple[GrpcRequest, float]:
        """Return what to send, as the hooks leave it, and the seconds for it."""
        along = outgoing(
            ctx, timeout, forward_authorization=self._options.forward_authorization
        )
        sent = GrpcRequest(
            offer.path, data, {**_metadata(along.headers), **self._fixed}
        )
        for before in self._hooks.before:
            before(ctx, sent)
        return sent, along.timeout

    def _read(self, ctx: Context, offer: Offer, reply: GrpcReply) -> Any:
        """Return the result in a reply.

        Raises:
            Exception: The error that it tells of.
        """
        for after in self._hooks.after:
            after(ctx, reply)
        find = self._hooks.error_decoder
        error = find(ctx, reply) if find is not None else _error(offer, reply)
        if error is not None:
            raise error
        return offer.decode(reply.message)


def _error(offer: Offer, reply: GrpcReply) -> Exception | None:
    if not reply.code:
        return None
    told = reply.told
    if not told.details and _LEAKS.match(f"{reply.code} {reply.details}"):
        # What went wrong inside the server is for the log, not for every caller.
        _log.warning("%s: the server failed: %r", offer.path, reply.details[:1000])
        failed = f"{offer.declaration.subject}: the server failed"
        return error_for(told.error.code, failed)
    return offer.error(told)


class _Messages:
    """The messages of a caller's stream: its request, if any, and its items.

    Attributes:
        error: What the caller's stream ended with; None if nothing went wrong.
    """

    def __init__(
        self, offer: Offer, first: bytes, items: AsyncIterator[Any] | None
    ) -> None:
        self.error: Exception | None = None
        self._offer = offer
        self._first = first
        self._items = items

    async def __aiter__(self) -> AsyncIterator[bytes]:
        item = self._offer.item
        try:
            if self._offer.encode is not None:
                yield self._first
            if self._items is not None and item is not None:
                async for each in self._items:
                    yield item(each)
        except Exception as exc:
            self.error = exc
            raise


def _metadata(headers: dict[str, str]) -> dict[str, str]:
    """Return what goes along with a call, in gRPC's names."""
    found = {}
    for name, value in headers.items():
        key = "x-request-id" if name == REQUEST_ID else name.lower()
        if _KEY.fullmatch(key) and _PRINTABLE.fullmatch(value):
            found[key] = value
    return found
