"""A remote HTTP API as a service: its operations are endpoints on the bus, or in process.

    options.py    `UpstreamOptions`: limits, times, credentials
    offer.py      what an API offers: by routes, by a class, by a document
    operation.py  from a request object to an HTTP request: path, query, header, body
    client.py     the pool of connections; redirects, time and size bounded
    reply.py      from an HTTP response to a result or an error
    streams.py    responses that are streams, as items
    openapi.py    the operations of an OpenAPI document
                  body.py, errors.py, dialect.py: its bodies, typed errors, schemas
    document.py   finds and reads such a document

::

    users = Upstream("https://api.example/v1", {"get": "GET /users/{id}"}, name="users")
    users = Upstream("https://api.example/v1", Users)      # a class with @endpoint(http=...)
    users = Upstream.of_document(document, name="users")   # OpenAPI 3.0 or 3.1

    await kit.serve(users)                                 # calls of users.get go there
    await users.endpoint("get")(current(), {"id": "7"})    # or without a bus
    await users.client(Users).get("7")                     # the same, typed

Needs the extra ``http`` (aiohttp), loaded when an upstream is made.  Left out: cookies, HTTP/2,
multipart bodies, WebSocket.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, Final

from kitmsg.transport.replies import Declared
from kitmsg.wire import REQUEST_ID
from kitmsg_gateways.http.upstream.offer import Offer, offers, settings_of
from kitmsg_gateways.http.upstream.options import UpstreamOptions, check_base
from kitmsg_gateways.http.upstream.reply import HttpReply, error_of
from kitmsg_gateways.http.upstream.streams import ACCEPT, items_of
from kitmsg_gateways.upstream import (
    Hooks,
    Instancer,
    Remote,
    RoundRobin,
    Upstream as _Upstream,
    outgoing,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from kitmsg.context import Context
    from kitmsg.endpoints import Endpoint, Middleware
    from kitmsg.schema.calls import StreamRequest
    from kitmsg.service import Service
    from kitmsg_gateways.http.upstream.client import HttpClient, HttpStream
    from kitmsg_gateways.http.upstream.operation import HttpRequest
    from kitmsg_gateways.upstream import Outgoing

    _FindError = Callable[[Context, HttpReply], Exception | None]

__all__ = ["HttpReply", "Upstream", "UpstreamOptions", "open_upstream"]

NDJSON: Final = "application/x-ndjson"
_OK: Final = range(200, 300)
_PRINTABLE: Final = re.compile(r"[\x20-\x7e]{1,8190}")


class Upstream(_Upstream):
    """Endpoints that a remote HTTP API implements.

    Args:
        addresses: Where it is: ``https://api.example/v1``, several, or an instancer.
        endpoints: Routes by name, as ``{"get": "GET /users/{id}"}``; or a service class
            whose methods, by their ``@endpoint(http=...)``, are declarations.
        name: Name on the bus; that of the class by default.
        options: Limits, times, credentials.
        hooks: Run around each call; they see the HTTP request and the HTTP response.
        middleware: Around each call; the first is outermost.
        doc: Description in discovery.

    What a class says of itself beside (version, concurrency, middleware ...) counts on the
    bus.

    Raises:
        ValueError: An address, a route, a name or a file is wrong, or there is no endpoint.
        FailedPrecondition: aiohttp is not installed.
    """

    def __init__(
        self,
        addresses: Instancer | str | Iterable[str],
        endpoints: Mapping[str, str] | type[Service] | Sequence[Offer],
        *,
        name: str = "",
        options: UpstreamOptions | None = None,
        hooks: Hooks[HttpRequest, HttpReply] | None = None,
        middleware: Sequence[Middleware] = (),
        doc: str = "",
    ) -> None:
        self.options = options or UpstreamOptions()
        self._hooks = hooks or Hooks()
        settings = settings_of(endpoints) if isinstance(endpoints, type) else {}
        name = name or settings.pop("name", "")
        self._pool = RoundRobin(name, _checked(addresses))
        self._client = _client(name, self.options)
        super().__init__(
            name,
            [self._remote(offer) for offer in offers(name, endpoints)],
            kind="http",
            middleware=middleware,
            doc=doc or settings.pop("doc", ""),
            version=self.options.version or settings.pop("version", ""),
            settings=settings,
        )

    def _remote(self, offer: Offer) -> Remote:
        call = self._hooks.finalized(self._endpoint(offer))
        return Remote(offer.declaration, call)

    def _endpoint(self, offer: Offer) -> Endpoint[Any, Any]:
        return self._streaming(offer) if offer.stream else self._plain(offer)

    def _plain(self, offer: Offer) -> Endpoint[Any, Any]:
        find_error = self._error_decoder(offer)

        async def call(ctx: Context, request: Any) -> Any:
            sent, along = self._request(offer, ctx, request)
            reply = await self._send(sent, along.timeout)
            return self._result(offer, ctx, reply, find_error)

        return call

    def _streaming(self, offer: Offer) -> Endpoint[Any, Any]:
        """Return the endpoint of an operation that takes items, or gives them."""
        find_error = self._error_decoder(offer)
        gives = offer.declaration.signature.gives_items

        async def call(ctx: Context, request: StreamRequest) -> Any:
            sent, along = self._request(offer, ctx, request.request)
            body = None
            if request.items is not None:
                sent.headers["Content-Type"] = NDJSON
                body = _lines(request.items, offer.encode_item)
            stream = await self._open(sent, along.timeout, body)
            if gives and stream.head.status in _OK:
                for after in self._hooks.after:
                    after(ctx, stream.head)
                return self._items(offer, ctx, stream, find_error)
            try:
                reply = await stream.whole()
            finally:
                stream.close()
            return self._result(offer, ctx, reply, find_error)

        return call

    def _error_decoder(self, offer: Offer) -> _FindError:
        raises = offer.declaration.options.raises
        known = {cls.__name__: Declared.of(cls) for cls in raises}
        name = offer.declaration.subject

        def find(_ctx: Context, reply: HttpReply) -> Exception | None:
            return error_of(reply, name=name, declared=known)

        return self._hooks.error_decoder or find

    def _request(
        self, offer: Offer, ctx: Context, request: Any
    ) -> tuple[HttpRequest, Outgoing]:
        """Return what is sent, and the time for it."""
        options = self.options
        timeout = offer.declaration.options.timeout or options.timeout
        sent = offer.operation.build(offer.to_plain(request))
        along = outgoing(
            ctx, timeout, forward_authorization=options.forward_authorization
        )
        sent.headers.update(_headers(along))
        if offer.stream:
            sent.headers["Accept"] = ACCEPT
        if not offer.stream or ctx.deadline is not None:
            sent.headers.update(_times(along.timeout))
        for before in self._hooks.before:
            before(ctx, sent)
        return sent, along

    def _result(
        self, offer: Offer, ctx: Context, reply: HttpReply, find_error: _FindError
    ) -> Any:
        for after in self._hooks.after:
            after(ctx, reply)
        error = find_error(ctx, reply)
        if error is not None:
            raise error
        return offer.read(reply)

    async def _items(
        self, offer: Offer, ctx: Context, stream: HttpStream, find_error: _FindError
    ) -> AsyncIterator[Any]:
        items = items_of(
            stream.head.content_type,
            stream.chunks(),
            read=offer.read,
            error_of=lambda reply: find_error(ctx, reply),
            limit=self.options.max_response_bytes,
        )
        try:
            async for item in items:
                yield item
        finally:
            stream.close()

    async def _send(self, request: HttpRequest, timeout: float) -> HttpReply:
        client = self._client
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout

        async def send(address: str) -> HttpReply:
            return await client.send(address, request, end - loop.time())

        return await self._pool.through(send)

    async def _open(
        self, request: HttpRequest, timeout: float, body: AsyncIterator[bytes] | None
    ) -> HttpStream:
        client = self._client

        async def send(address: str) -> HttpStream:
            return await client.stream(address, request, timeout, body)

        return await self._pool.through(send)

    async def close(self) -> None:
        """Close the connections; a later call opens them again."""
        self._pool.close()
        await self._client.close()

    @classmethod
    def of_document(
        cls,
        document: Mapping[str, Any],
        addresses: Instancer | str | Iterable[str] = (),
        *,
        name: str,
        options: UpstreamOptions | None = None,
        hooks: Hooks[HttpRequest, HttpReply] | None = None,
        middleware: Sequence[Middleware] = (),
    ) -> Upstream:
        """Return the upstream that an OpenAPI document describes.

        An operation is named by its ``operationId``, with "_" for what a name on the bus
        cannot have.  One that cannot be an endpoint is left out, with a warning.

        Args:
            document: OpenAPI 3.0 or 3.1, parsed.
            addresses: Where the API is; by default the document's first server.
            name: Name on the bus.
            options: Limits, times, credentials; `only` chooses operations.
            hooks: As in `Upstream`.
            middleware: As in `Upstream`.

        Raises:
            ValueError: It is no such document, two operations have one name, or none is
                left.
        """
        from kitmsg_gateways.http.upstream.openapi import read_document

        options = options or UpstreamOptions()
        found = read_document(document, service=name, only=options.only)
        return cls(
            addresses or found.servers,
            found.offers,
            name=name,
            options=options.with_version(found.version),
            hooks=hooks,
            middleware=middleware,
            doc=found.title,
        )


async def open_upstream(
    name: str, addresses: Sequence[str], options: UpstreamOptions
) -> Upstream:
    """Return the upstream that a command line describes.

    Args:
        name: Name on the bus.
        addresses: Where the API is; none for the servers that its document names.
        options: What the flags say.

    Raises:
        ValueError: They do not fit together, or the document is wrong.
        Unavailable: The document cannot be fetched.
    """
    if bool(options.openapi) == bool(options.route):
        raise ValueError(
            "say what the API offers, in one way: --openapi FILE, or"
            " --route 'get=GET /users/{id}' for each endpoint"
        )
    if not options.openapi:
        return Upstream(addresses, _routes(options), name=name, options=options)
    from kitmsg_gateways.http.upstream.document import load_document

    document = await load_document(options.openapi, options)
    return Upstream.of_document(document, addresses, name=name, options=options)


def _routes(options: UpstreamOptions) -> dict[str, str]:
    pairs = [line.partition("=") for line in options.route]
    return {name.strip(): route.strip() for name, _, route in pairs}


def _checked(addresses: Instancer | str | Iterable[str]) -> Instancer | list[str]:
    if isinstance(addresses, Instancer):
        return addresses
    given = [addresses] if isinstance(addresses, str) else list(addresses)
    if not given:
        raise ValueError(
            "give the address of the API, such as 'https://api.example/v1'"
        )
    return [check_base(address) for address in given]


def _client(name: str, options: UpstreamOptions) -> HttpClient:
    from kitmsg_gateways.http import need_aiohttp

    need_aiohttp()
    from kitmsg_gateways.http.upstream.client import HttpClient

    return HttpClient(name, options)


def _headers(along: Outgoing) -> dict[str, str]:
    """Return what goes along with a call, in HTTP's names."""
    found = {n: v for n, v in along.headers.items() if _PRINTABLE.fullmatch(v)}
    id_ = found.pop(REQUEST_ID, "")
    if id_:
        found["X-Request-Id"] = id_
    return found


def _times(timeout: float) -> dict[str, str]:
    """Return the headers that tell the server how many seconds are left."""
    milliseconds = max(1, int(timeout * 1000))
    return {
        "Request-Timeout": f"{milliseconds / 1000:.3f}",
        "X-Request-Timeout-Ms": str(milliseconds),
    }


async def _lines(
    items: AsyncIterator[Any], encode: Callable[[Any], bytes]
) -> AsyncIterator[bytes]:
    async for item in items:
        yield encode(item) + b"\n"
