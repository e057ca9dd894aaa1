"""HTTP outside, the bus inside: every service found on the bus, in any language.

    options.py  `GatewayOptions`, beside what all doors have
    server.py   `GatewayServer`: the connections, on the edge's lifecycle
    connection.py  limits on times and sizes, answers in one write; aiohttp_parts.py, what
                of aiohttp is private
    visit.py    one request and who makes it
    filters.py  who asks, as whom, how often; cors.py, which web pages may
    api.py      one request: find the endpoint, call it over the bus, answer
    router.py   routes, and the one that a request matches
    methods.py  the endpoints on the bus as routes, as services come and go
    owners.py   who has which route: whoever was there first
    body.py     the body of a request: limits, time, gzip
    bind.py     path, query, header and body parameters to one request object
    call.py     deadline and headers for the bus, the ask, the reply
    spans.py    the span of a request
    errors.py   errors as problem details (RFC 9457)
    content.py  representations of a result: negotiated, bytes, parts, cache tags, gzip
    jsonrpc.py  JSON-RPC 2.0 without I/O; rpc.py, its methods as endpoints
    pages.py    the gateway's own pages: health, metrics, OpenAPI, schemas, docs
    openapi/    the OpenAPI document of what is mounted
    events/     events that clients publish and follow
    streams/    endpoints that stream: events, lines, bytes, uploads, WebSockets
    upstream/   the other direction: `Upstream`, a remote HTTP API as a service

::

    async with kitmsg.connect() as kit:
        server = await kitmsg_gateways.http.serve(kit, port=8080)
        ...
        await server.stop()

Needs the extra ``http`` (aiohttp), loaded when a gateway is made; tokens also need
``auth`` (PyJWT).  Left out: HTTP/2 and HTTP/3, which a proxy in front speaks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kitmsg_gateways.edge.package import Package
from kitmsg_gateways.http.options import EXTRA, GatewayOptions

if TYPE_CHECKING:
    from kitmsg_gateways.http.server import GatewayServer
    from kitmsg_gateways.http.upstream import Upstream

__all__ = [
    "TITLE",
    "GatewayOptions",
    "GatewayServer",
    "Upstream",
    "check",
    "listen",
    "run",
    "serve",
]

TITLE: Final = EXTRA.title

package: Final[Package[GatewayOptions, GatewayServer]] = Package(
    __name__, GatewayOptions, EXTRA
)
serve, run, check = package.serve, package.run, package.check
listen, __getattr__ = package.listen, package.attribute
