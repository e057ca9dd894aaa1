"""A remote HTTP API as a service: its operations are endpoints on the bus, or in process.

    options.py    `UpstreamOptions`
    offer.py      endpoints by routes or by a class
    call.py       one endpoint: its requests and replies
    describe.py   the operations of an OpenAPI document, as endpoints:
    document.py   loads such a document; its references, schemas, bodies and typed errors
    operation.py  from a request object to an HTTP request: path, query, header, body
    reply.py      from an HTTP response to a result or an error, or to a stream of items
    client.py     the pool of connections; redirects, time and size bounded

::

    users = Upstream("https://api.example/v1", {"get": "GET /users/{id}"}, name="users")
    users = Upstream("https://api.example/v1", Users)      # a class with @endpoint(http=...)
    users = Upstream((), OpenApi(document), name="users")  # OpenAPI 3.0 or 3.1

    await kit.serve(users)                                 # calls of users.get go there
    await users.endpoint("get")(current(), {"id": "7"})    # or without a bus
    await users.client(Users).get("7")                     # the same, typed

Needs the extra ``http`` (aiohttp), loaded when an upstream is made.  Left out: cookies, HTTP/2,
multipart bodies, WebSocket.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias

from kitmsg.service import Service
from kitmsg_gateways.edge.extra import Extra  # hints can be read
from kitmsg_gateways.http.options import EXTRA
from kitmsg_gateways.http.upstream.document import OpenApi
from kitmsg_gateways.http.upstream.operation import HttpRequest
from kitmsg_gateways.http.upstream.options import UpstreamOptions, check_address
from kitmsg_gateways.http.upstream.reply import HttpReply
from kitmsg_gateways.upstream import Hooks, Offered, ProtocolUpstream

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "TITLE",
    "HttpReply",
    "HttpRequest",
    "OpenApi",
    "Upstream",
    "UpstreamOptions",
    "open_upstream",
]

TITLE: Final = EXTRA.title
Endpoints: TypeAlias = Mapping[str, str] | type[Service] | OpenApi


class Upstream(ProtocolUpstream[Endpoints, UpstreamOptions, HttpRequest, HttpReply]):
    """Endpoints that a remote HTTP API implements.

    Its endpoints are given by routes, as ``{"get": "GET /users/{id}"}``; by a service class
    whose methods, with their ``@endpoint(http=...)``, are declarations; or by an `OpenApi`
    document.  An operation of a document is named by its ``operationId``, with "_" for
    what a name on the bus cannot have; one that cannot be an endpoint is left out, with a
    warning.  Without an address, that is where the document says.
    """

    KIND: ClassVar[str] = "http"
    EXTRA: ClassVar[Extra] = EXTRA
    EXAMPLE: ClassVar[str] = "https://api.example/v1"
    OPTIONS: ClassVar[type[UpstreamOptions]] = UpstreamOptions
    check_address = staticmethod(check_address)

    def offered(  # noqa: D102
        self,
        name: str,
        endpoints: Endpoints,
        hooks: Hooks[HttpRequest, HttpReply],
    ) -> Offered[HttpRequest, HttpReply]:
        from kitmsg_gateways.http.upstream.client import HttpClient
        from kitmsg_gateways.http.upstream.describe import read_document
        from kitmsg_gateways.http.upstream.offer import offers

        client = HttpClient(name, self.options)
        if not isinstance(endpoints, OpenApi):
            return Offered(methods=offers(name, endpoints), transport=client)
        only = self.options.only
        found = read_document(endpoints.document, service=name, only=only)
        return Offered(
            methods=found.offers,
            transport=client,
            doc=found.title,
            version=found.version,
            addresses=found.servers,
        )


async def open_upstream(
    name: str, addresses: Sequence[str], options: UpstreamOptions
) -> Upstream:
    """Return the upstream of a command line; see `kitmsg.worker.plugins`."""
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
    return Upstream(addresses, OpenApi(document), name=name, options=options)
