"""A remote HTTP API as a service: its operations are endpoints on the bus, or in process.

    options.py    `UpstreamOptions`
    offer.py      endpoints by routes, by a class, or by a document
    describe.py   the operations of an OpenAPI document, as endpoints:
                  body.py, errors.py, dialect.py: its bodies, typed errors, schemas
    document.py   loads such a document
    call.py       one endpoint: its requests and replies
    operation.py  from a request object to an HTTP request: path, query, header, body
    reply.py      from an HTTP response to a result or an error
    streams.py    responses that are streams, as items
    client.py     the pool of connections; redirects, time and size bounded

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

from typing import TYPE_CHECKING, Any, Final

from kitmsg_gateways.http.upstream.operation import HttpRequest
from kitmsg_gateways.http.upstream.options import UpstreamOptions, check_address
from kitmsg_gateways.http.upstream.reply import HttpReply
from kitmsg_gateways.upstream import Client, Hooks, Upstream as _Upstream
from kitmsg_gateways.upstream.instancer import instancer
from kitmsg_gateways.upstream.offers import settings_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kitmsg.endpoints import Middleware
    from kitmsg.service import Service
    from kitmsg_gateways.http.upstream.call import HttpMethod
    from kitmsg_gateways.upstream.instancer import Addresses

__all__ = [
    "TITLE",
    "HttpReply",
    "HttpRequest",
    "Upstream",
    "UpstreamOptions",
    "open_upstream",
]

TITLE: Final = "HTTP"


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

    The settings of a class (version, concurrency, middleware ...) count on the bus.

    Raises:
        ValueError: An address, a route, a name or a file is wrong, or there is no endpoint.
        FailedPrecondition: aiohttp is not installed.
    """

    def __init__(
        self,
        addresses: Addresses,
        endpoints: Mapping[str, str] | type[Service] | Sequence[HttpMethod],
        *,
        name: str = "",
        options: UpstreamOptions | None = None,
        hooks: Hooks[HttpRequest, HttpReply] | None = None,
        middleware: Sequence[Middleware] = (),
        doc: str = "",
    ) -> None:
        from kitmsg_gateways.http import need_aiohttp

        need_aiohttp()
        from kitmsg_gateways.http.upstream.client import HttpClient
        from kitmsg_gateways.http.upstream.offer import offers

        self.options = options or UpstreamOptions()
        name = name or getattr(endpoints, "name", "")
        where = instancer(addresses, check_address, "https://api.example/v1")
        transport = HttpClient(name, self.options)
        client = Client(name, where, transport, self.options, hooks or Hooks())
        super().__init__(
            name,
            client.remotes(offers(name, endpoints)),
            kind="http",
            middleware=middleware,
            doc=doc,
            version=self.options.version,
            settings=settings_of(endpoints),
            client=client,
        )

    @classmethod
    def of_document(
        cls,
        document: Mapping[str, Any],
        addresses: Addresses = (),
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
        from kitmsg_gateways.http.upstream.describe import read_document

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
        pairs = [line.partition("=") for line in options.route]
        routes = {endpoint.strip(): route.strip() for endpoint, _, route in pairs}
        return Upstream(addresses, routes, name=name, options=options)
    from kitmsg_gateways.http.upstream.document import load_document

    document = await load_document(options.openapi, options)
    return Upstream.of_document(document, addresses, name=name, options=options)
