"""A gRPC service elsewhere as a service here: its methods are endpoints, on the bus or not.

    options.py   `UpstreamOptions`: what the server offers, limits, times, credentials
    offer.py     what a server offers: by a class, or by descriptors
    describe.py  descriptors to JSON Schemas and a layout of messages
    reflect.py   asks a server what it offers
    client.py    connections, calls and streams

::

    users = Upstream.of_protos(load(["users.proto"]), "users.example:50051", name="users")
    shop = Upstream("shop.example:50051", Shop)      # a kitmsg gateway, by the class
    any_ = await open_upstream("any", ["host:50051"], UpstreamOptions(reflection=True))

    await kit.serve(users)                                   # calls go there
    await users.endpoint("get_user")(current(), {"id": "7"}) # or without a bus
    await shop.client(Shop).price("tea")                     # the same, typed

Methods become endpoints in snake case.  Needs the extra ``grpc`` (grpcio), loaded when an
upstream is made.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, Any, Final

from gateways.grpc import need_grpc
from gateways.grpc.upstream.options import UpstreamOptions, check_address
from gateways.upstream import (
    Hooks,
    Instancer,
    Remote,
    RoundRobin,
    Upstream as _Upstream,
    outgoing,
)
from kitmsg.errors import DataLoss, error_for
from kitmsg.transport.wire import REQUEST_ID

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from google.protobuf.descriptor import ServiceDescriptor

    from gateways.grpc.protofile import Protos
    from gateways.grpc.upstream.client import GrpcReply, GrpcRequest
    from gateways.grpc.upstream.offer import Offer
    from kitmsg.context import Context
    from kitmsg.endpoint import Endpoint, Middleware
    from kitmsg.schema.calls import StreamRequest
    from kitmsg.service import Service

__all__ = ["Upstream", "UpstreamOptions", "open_upstream"]

_log = logging.getLogger("gateways.grpc")

_PRINTABLE: Final = re.compile(r"[\x20-\x7e]{1,8190}")
_KEY: Final = re.compile(r"[0-9a-z_.-]+")

# Any INTERNAL, and UNKNOWN where a Python server tells of an exception.
_LEAKS: Final = re.compile(r"13 |2 (Unexpected <class|Exception (calling|iterating))")


class Upstream(_Upstream):
    """Endpoints that a remote gRPC service implements.

    Args:
        addresses: Where it is: ``host:port``, ``grpcs://host:port``, several, or an
            instancer.
        endpoints: What it offers: the class of a kitmsg service behind a gateway, or
            offers, as `of_protos` makes them.
        name: Name on the bus; that of the class by default.
        options: Limits, times, credentials.
        hooks: Run around each call; they see the gRPC request and the gRPC reply.
        middleware: Around each call; the first is outermost.
        doc: Description in discovery.

    Raises:
        ValueError: An address, a name or a file is wrong, or there is no endpoint.
        FailedPrecondition: grpcio is not installed, or an endpoint has no form in protobuf.
    """

    def __init__(
        self,
        addresses: Instancer | str | Iterable[str],
        endpoints: type[Service] | Sequence[Offer],
        *,
        name: str = "",
        options: UpstreamOptions | None = None,
        hooks: Hooks[GrpcRequest, GrpcReply] | None = None,
        middleware: Sequence[Middleware] = (),
        doc: str = "",
    ) -> None:
        need_grpc()
        from gateways.grpc.upstream.client import Channels
        from gateways.grpc.upstream.offer import offers_of_class

        self.options = options or UpstreamOptions()
        self._hooks = hooks or Hooks()
        name = name or getattr(endpoints, "name", "")
        if isinstance(endpoints, type):
            endpoints = offers_of_class(name, endpoints)
        self._fixed = self.options.fixed_metadata()
        self._channels = Channels(self.options)
        self._closing: set[asyncio.Task[None]] = set()
        self._pool = RoundRobin(name, _checked(addresses), gone=self._gone)
        super().__init__(
            name,
            [self._remote(offer) for offer in endpoints],
            kind="grpc",
            middleware=middleware,
            doc=doc,
            version=self.options.version,
        )

    @classmethod
    def of_protos(
        cls,
        protos: Protos,
        addresses: Instancer | str | Iterable[str],
        *,
        name: str,
        options: UpstreamOptions | None = None,
        hooks: Hooks[GrpcRequest, GrpcReply] | None = None,
        middleware: Sequence[Middleware] = (),
    ) -> Upstream:
        """Return the upstream that files describe, as `protofile.load` reads them.

        Args:
            protos: The files.
            addresses: Where the service is.
            name: Name on the bus.
            options: Limits, times, credentials; `service` and `only` choose what of it.
            hooks: As in `Upstream`.
            middleware: As in `Upstream`.

        Raises:
            ValueError: There is no such service, or several and none is chosen.
        """
        from gateways.grpc.upstream.offer import offers_of_service

        options = options or UpstreamOptions()
        service = _chosen(protos.services, options.service)
        offers = offers_of_service(
            name, service, only=options.only, error_field=options.error_field
        )
        return cls(
            addresses,
            offers,
            name=name,
            options=options,
            hooks=hooks,
            middleware=middleware,
            doc=f"{service.full_name}, over gRPC.",
        )

    def _remote(self, offer: Offer) -> Remote:
        stream = offer.declaration.signature.stream
        make = {"": self._unary, "in": self._one_of_stream}.get(stream, self._stream)
        return Remote(offer.declaration, self._hooks.finalized(make(offer)))

    def _unary(self, offer: Offer) -> Endpoint[Any, Any]:
        from gateways.grpc.upstream.client import unary

        timeout = offer.declaration.options.timeout or self.options.timeout
        encode, wants_trailers = offer.encode, bool(self._hooks.after)

        async def call(ctx: Context, request: Any) -> Any:
            data = encode(request) if encode is not None else b""
            sent, seconds = self._request(ctx, offer, data, timeout)
            loop = asyncio.get_running_loop()
            end = loop.time() + seconds

            async def send(address: str) -> GrpcReply:
                channel = await self._channels.ready(address)
                left = max(0.001, end - loop.time())
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
        from gateways.grpc.upstream.client import stream

        async def call(ctx: Context, request: StreamRequest) -> Any:
            data = b"" if offer.encode is None else offer.encode(request.request)
            takes = offer.item is not None
            sent, seconds = self._request(
                ctx, offer, b"" if takes else data, self.options.timeout
            )
            timeout = None if ctx.deadline is None else seconds
            channel = await self._pool.through(self._channels.ready)
            items = _messages(offer, data, request.items) if takes else None
            return self._results(ctx, offer, stream(channel, sent, items, timeout))

        return call

    async def _results(
        self, ctx: Context, offer: Offer, replies: AsyncIterator[GrpcReply]
    ) -> AsyncIterator[Any]:
        try:
            async for reply in replies:
                yield self._read(ctx, offer, reply)
        finally:
            close = getattr(replies, "aclose", None)
            if close is not None:
                await close()

    def _request(
        self, ctx: Context, offer: Offer, data: bytes, timeout: float
    ) -> tuple[GrpcRequest, float]:
        """Return what to send, as the hooks leave it, and the seconds for it."""
        from gateways.grpc.upstream.client import GrpcRequest

        along = outgoing(
            ctx, timeout, forward_authorization=self.options.forward_authorization
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

    def _gone(self, address: str) -> None:
        task = asyncio.ensure_future(self._channels.close(address))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close the connections; a later call opens them again."""
        await self._channels.close()


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


async def _messages(
    offer: Offer, first: bytes, items: AsyncIterator[Any] | None
) -> AsyncIterator[bytes]:
    """Yield the messages of a caller's stream: its request, if any, and its items."""
    if offer.encode is not None:
        yield first
    if items is not None and offer.item is not None:
        async for item in items:
            yield offer.item(item)


def _metadata(headers: dict[str, str]) -> dict[str, str]:
    """Return what goes along with a call, in gRPC's names."""
    found = {}
    for name, value in headers.items():
        key = "x-request-id" if name == REQUEST_ID else name.lower()
        if _KEY.fullmatch(key) and _PRINTABLE.fullmatch(value):
            found[key] = value
    return found


def _checked(addresses: Instancer | str | Iterable[str]) -> Instancer | list[str]:
    if isinstance(addresses, Instancer):
        return addresses
    given = [addresses] if isinstance(addresses, str) else list(addresses)
    if not given:
        raise ValueError("give the address of the server, such as 'shop.example:50051'")
    return [check_address(address) for address in given]


def _chosen(services: Sequence[ServiceDescriptor], wanted: str) -> ServiceDescriptor:
    known = {service.full_name: service for service in services}
    if wanted in known:
        return known[wanted]
    listed = ", ".join(known) or "none"
    if wanted:
        raise ValueError(f"the server has no service {wanted!r}; it has {listed}")
    if len(known) != 1:
        raise ValueError(f"name one of its services with --service: {listed}")
    return services[0]


async def open_upstream(
    name: str, addresses: Sequence[str], options: UpstreamOptions
) -> Upstream:
    """Return the upstream that a command line describes.

    Args:
        name: Name on the bus.
        addresses: Where the server is.
        options: What the flags say.

    Raises:
        ValueError: They do not fit together.
        FailedPrecondition: A file cannot be used, or the server has no reflection.
        Unavailable: The server cannot be asked.
    """
    need_grpc()
    if bool(options.proto) == options.reflection:
        raise ValueError(
            "say what the server offers, in one way: --proto FILE, or --reflection to ask"
            " it"
        )
    checked = _checked(addresses)
    if options.proto:
        from gateways.grpc.protofile import load

        protos = load(options.proto, options.proto_path)
    else:
        protos = await _reflected(name, checked, options)
    return Upstream.of_protos(protos, checked, name=name, options=options)


async def _reflected(
    name: str, addresses: Instancer | list[str], options: UpstreamOptions
) -> Protos:
    import grpc.aio

    from gateways.grpc.status import read_status
    from gateways.grpc.upstream.client import Channels
    from gateways.grpc.upstream.reflect import reflect

    channels = Channels(options)
    try:
        channel = await RoundRobin(name, addresses).through(channels.ready)
        return await reflect(channel, options.timeout)
    except grpc.aio.AioRpcError as exc:
        told = read_status(exc.code().value[0], exc.details() or "", ())
        raise told.error from exc
    finally:
        await channels.close()
