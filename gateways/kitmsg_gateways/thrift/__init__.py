"""Thrift outside, the bus inside: every service found on the bus, with no IDL written.

    options.py    `GatewayOptions`, beside what all doors have
    server.py     `GatewayServer`: connections on the edge's lifecycle
    connection.py one client: messages in, answers out in the same order
    methods.py    methods that are served, and the table of them
    sources.py    where they come from: the schemas on the bus, a .thrift of the user's
    bind.py       a method of an IDL bound to a live endpoint
    load.py         a .thrift file or text to the model
    model.py        an IDL's types and services as values
    generate.py     schemas on the bus to a .thrift text; export.py writes it
    convert.py    values of an IDL to those of the bus and back, out of:
    decode.py       what comes over Thrift
    encode.py       what goes there
    protocol/     bytes: the binary and the compact protocol, framing
    call.py       one call: over the bus and back
    upstream/     the other direction: a Thrift service elsewhere, served on the bus

::

    async with kitmsg.connect() as kit:
        server = await kitmsg_gateways.thrift.serve(kit, port=8083)
        ...
        await server.stop()

Needs the extra ``thrift`` (thriftpy2, which reads IDLs), loaded when a gateway is made.
Left out: streams, which have no form in Thrift; the JSON protocols; THeader.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import kitmsg_gateways.thrift as this  # what is loaded when it is asked for
from kitmsg.bus import Bus
from kitmsg.service import Kit
from kitmsg_gateways.thrift.options import GatewayOptions

if TYPE_CHECKING:
    from kitmsg_gateways.thrift.server import GatewayServer
    from kitmsg_gateways.thrift.upstream import Upstream

__all__ = [
    "TITLE",
    "GatewayOptions",
    "GatewayServer",
    "Upstream",
    "check",
    "listen",
    "need_thriftpy2",
    "run",
    "serve",
]

TITLE: Final = "Thrift"


def __getattr__(name: str) -> Any:
    if name == "GatewayServer":  # options need not load thriftpy2
        need_thriftpy2()
        from kitmsg_gateways.thrift.server import GatewayServer

        return GatewayServer
    if name == "Upstream":  # a gateway need not load it
        from kitmsg_gateways.thrift.upstream import Upstream

        return Upstream
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


async def serve(
    kit_or_bus: Kit | Bus,
    options: GatewayOptions | None = None,
    *,
    host: str | None = None,
    port: int | None = None,
    sockets: Sequence[socket.socket] = (),
) -> this.GatewayServer:
    """Start a gateway on a bus; returns when it accepts calls.

    The bus stays its maker's: stopping the gateway does not close it.

    Args:
        kit_or_bus: The bus, or a kit on it.
        options: Limits, times and switches.
        host: Address to listen on, instead of the one in `options`.
        port: Port to listen on, instead of the one in `options`; 0 for a free one.
        sockets: What `listen` returned, shared with other processes.

    Raises:
        FailedPrecondition: thriftpy2 is not installed, a file cannot be used, or a service
            does not fit the .thrift that was given.
        ValueError: An option does not fit.
        OSError: The address cannot be had; ``errno.EADDRINUSE`` when it is taken.
    """
    need_thriftpy2()
    from kitmsg_gateways.edge.process import bus_of
    from kitmsg_gateways.thrift.server import GatewayServer

    chosen = (options or GatewayOptions()).at(host, port)
    server = GatewayServer(bus_of(kit_or_bus), chosen, sockets=sockets)
    await server.start()
    return server


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
        on_ready: Called once, when calls are accepted.

    Raises:
        KitError: The bus cannot be reached, or see `serve`.
        OSError: The address cannot be had.
    """
    need_thriftpy2()
    from kitmsg_gateways.edge import process

    await process.run(lambda kit: serve(kit, options), servers, on_ready)


def check(options: GatewayOptions) -> None:
    """Check what can be checked without a bus: files, and that thriftpy2 is there.

    Raises:
        FailedPrecondition: Something cannot be used; the message says what.
        InvalidArgument: An option does not fit the others or a file.
    """
    need_thriftpy2()
    from kitmsg.errors import InvalidArgument
    from kitmsg.idl.numbers import warn_apart
    from kitmsg_gateways.edge.tls import Tls
    from kitmsg_gateways.thrift.protocol import Limits
    from kitmsg_gateways.thrift.server import make_source

    try:
        make_source(options, Limits())
    except ValueError as exc:
        raise InvalidArgument(str(exc)) from exc
    if options.tls_cert:
        Tls(options)
    if not options.thrift:
        warn_apart(options.workers, options.lock)


def listen(options: GatewayOptions) -> list[socket.socket]:
    """Return listening sockets for several processes to share; see `serve`.

    Raises:
        OSError: The address cannot be had.
    """
    from kitmsg_gateways.edge.listener import bind

    return bind(options.host, options.port, reuse_port=options.reuse_port)


def need_thriftpy2() -> None:
    """Check that thriftpy2 is there.

    Raises:
        FailedPrecondition: It is not; the message says how to install it.
    """
    try:
        import thriftpy2.parser  # noqa: F401  # only whether it is there
    except ImportError as exc:
        from kitmsg.errors import FailedPrecondition

        raise FailedPrecondition(
            "the Thrift gateway needs thriftpy2: pip install 'kitmsg[thrift]'"
        ) from exc
