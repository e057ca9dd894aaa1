"""HTTP outside, the bus inside: every service found on the bus, in any language.

    options.py  `GatewayOptions`, beside what all doors have
    server.py   `GatewayServer`: the connections, on the edge's lifecycle
    connection.py  limits on times and sizes, answers in one write; aiohttp_parts.py, what
                of aiohttp is private
    visit.py    one request and who makes it
    filters.py  who asks, as whom, how often; cors.py, which web pages may
    api.py      one request: find the endpoint, call it over the bus, answer
    methods.py  the endpoints on the bus as routes, as services come and go
    router.py   methods and path templates to routes
    body.py     the body of a request: limits, time, gzip
    bind.py     path, query, header and body parameters to one request object
    call.py     deadline and headers for the bus, the ask, the reply
    errors.py   errors as problem details (RFC 9457)
    content.py  representations of a result: negotiated, bytes, parts, cache tags, gzip
    jsonrpc.py  JSON-RPC 2.0 without I/O; rpc.py, its methods as endpoints
    pages.py    the gateway's own pages: health, metrics, OpenAPI, schemas, docs
    openapi/    the OpenAPI document of what is mounted
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

import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import kitmsg_gateways.http as this  # what is loaded when it is asked for
from kitmsg.bus import Bus
from kitmsg.service import Kit
from kitmsg_gateways.http.options import GatewayOptions

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
    "need_aiohttp",
    "run",
    "serve",
]

TITLE: Final = "HTTP"


def __getattr__(name: str) -> Any:
    if name == "Upstream":  # a gateway need not load it
        from kitmsg_gateways.http.upstream import Upstream

        return Upstream
    if name == "GatewayServer":  # options need not load aiohttp
        need_aiohttp()
        from kitmsg_gateways.http.server import GatewayServer

        return GatewayServer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


async def serve(
    kit_or_bus: Kit | Bus,
    options: GatewayOptions | None = None,
    *,
    host: str | None = None,
    port: int | None = None,
    sockets: Sequence[socket.socket] = (),
) -> this.GatewayServer:
    """Start a gateway on a bus; returns when it accepts requests.

    The bus stays its maker's: stopping the gateway does not close it.

    Args:
        kit_or_bus: The bus, or a kit on it.
        options: Limits, times and switches.
        host: Address to listen on, instead of the one in `options`.
        port: Port to listen on, instead of the one in `options`; 0 for a free one.
        sockets: What `listen` returned, shared with other processes.

    Raises:
        FailedPrecondition: aiohttp is not installed.
        KitError: An option does not fit, or a file it names cannot be used.
        OSError: The address cannot be had; ``errno.EADDRINUSE`` when it is taken.
    """
    need_aiohttp()
    from kitmsg_gateways.edge.process import bus_of
    from kitmsg_gateways.http.server import GatewayServer

    bus = bus_of(kit_or_bus)
    chosen = (options or GatewayOptions()).at(host, port)
    server = GatewayServer(bus, chosen, sockets)
    await server.start()
    return server


def check(options: GatewayOptions) -> None:
    """Read what the options name, and throw it away: `serve` would find it wrong too.

    Raises:
        FailedPrecondition: aiohttp is not installed.
        KitError: An option does not fit, or a file it names cannot be used.
    """
    need_aiohttp()
    from kitmsg_gateways.http import server

    server.check(options)


def listen(options: GatewayOptions) -> list[socket.socket]:
    """Return listening sockets for several processes to share; see `serve`.

    Raises:
        FailedPrecondition: aiohttp is not installed.
        OSError: The address cannot be had; ``errno.EADDRINUSE`` when it is taken.
    """
    need_aiohttp()
    from kitmsg_gateways.edge.listener import bind

    return bind(options.host, options.port, reuse_port=options.reuse_port)


async def run(
    options: GatewayOptions | None = None,
    *,
    servers: str | None = None,
    on_ready: Callable[[this.GatewayServer], None] | None = None,
) -> None:
    """Connect to the bus and serve it until SIGTERM or SIGINT, then stop gracefully.

    Args:
        options: Limits, times and switches.
        servers: NATS URL; by default ``NATS_URL``, else the local bus.
        on_ready: Called once, when requests are accepted.

    Raises:
        FailedPrecondition: aiohttp is not installed.
        KitError: The bus cannot be reached.
        OSError: The address cannot be had.
    """
    need_aiohttp()
    from kitmsg_gateways.edge import process

    await process.run(lambda kit: serve(kit, options), servers, on_ready)


def need_aiohttp() -> None:
    """Check that aiohttp is there.

    Raises:
        FailedPrecondition: It is not; the message says how to install it.
    """
    try:
        import aiohttp  # noqa: F401  # only whether it is there
    except ImportError as exc:
        from kitmsg.errors import FailedPrecondition

        raise FailedPrecondition(
            "the HTTP gateway needs aiohttp: pip install 'kitmsg[http]'"
        ) from exc
