"""gRPC outside, the bus inside: every service found on the bus, with no .proto written.

    options.py    `GatewayOptions`, beside what all doors have
    server.py     `GatewayServer`: gRPC's own server on the edge's lifecycle
    ports.py      the port, which gRPC's core opens
    methods.py    methods that are served, and the table of them
    sources.py    where they come from: the schemas on the bus, a .proto of the user's
    bind.py       a method of that .proto bound to a live endpoint
    load.py         .proto files compiled and read
    layout.py     services as messages with fields and numbers
    names.py        names in protobuf, made of any text
    generate.py     layouts as protobuf descriptors and .proto text; export.py writes it
    convert.py    messages to plain values and back, out of:
    decode.py       messages to values
    encode.py       values to messages
    values.py       values of one kind each
    times.py        Timestamp and Duration, for a .proto that has them
    call.py       one call: over the bus and back, streams too
    metadata.py   what crosses beside the request: headers, deadline, request id
    status.py     errors as statuses with details, and back
    health.py     grpc.health.v1
    reflection.py server reflection, v1 and v1alpha
    tls.py        certificates for gRPC's core
    upstream/     the other direction: a gRPC service elsewhere, served on the bus

::

    async with kitmsg.connect() as kit:
        server = await kitmsg_gateways.grpc.serve(kit, port=50051)
        ...
        await server.stop()

Needs the extra ``grpc`` (grpcio, its health and reflection packages, Google's common
messages), loaded when a gateway is made.
"""

from __future__ import annotations

import importlib
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import kitmsg_gateways.grpc as this  # what is loaded when it is asked for
from kitmsg.bus import Bus
from kitmsg.service import Kit
from kitmsg_gateways.grpc.options import GatewayOptions

if TYPE_CHECKING:
    from kitmsg_gateways.grpc.server import GatewayServer
    from kitmsg_gateways.grpc.upstream import Upstream

__all__ = [
    "TITLE",
    "GatewayOptions",
    "GatewayServer",
    "Upstream",
    "check",
    "listen",
    "need_grpc",
    "run",
    "serve",
]

TITLE: Final = "gRPC"

_NEEDED: Final = (
    "grpc.aio",
    "grpc_health",
    "grpc_reflection",
    "google.rpc.status_pb2",
)


def __getattr__(name: str) -> Any:
    if name == "Upstream":  # a gateway need not load it
        from kitmsg_gateways.grpc.upstream import Upstream

        return Upstream
    if name == "GatewayServer":  # options need not load grpcio
        need_grpc()
        from kitmsg_gateways.grpc.server import GatewayServer

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
    """Start a gateway on a bus; returns when it accepts calls.

    The bus stays its maker's: stopping the gateway does not close it.

    Args:
        kit_or_bus: The bus, or a kit on it.
        options: Limits, times and switches.
        host: Address to listen on, instead of the one in `options`.
        port: Port to listen on, instead of the one in `options`; 0 for a free one.
        sockets: What `listen` returned: listen where they are bound, beside others.

    Raises:
        FailedPrecondition: grpcio is not installed, a file cannot be used, or a service
            does not fit the .proto that was given.
        ValueError: An option does not fit.
        OSError: The address cannot be had; ``errno.EADDRINUSE`` when it is taken.
    """
    need_grpc()
    from kitmsg_gateways.edge.process import bus_of
    from kitmsg_gateways.grpc.server import GatewayServer

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
    need_grpc()
    from kitmsg_gateways.edge import process

    await process.run(lambda kit: serve(kit, options), servers, on_ready)


def check(options: GatewayOptions) -> None:
    """Look at what a gateway can be seen to lack before there is a bus.

    Raises:
        FailedPrecondition: grpcio is not installed, or a file cannot be used.
        InvalidArgument: An option does not fit the others or a file.
    """
    need_grpc()
    from kitmsg.errors import InvalidArgument
    from kitmsg.idl.numbers import warn_apart
    from kitmsg_gateways.grpc.metadata import Forwarding
    from kitmsg_gateways.grpc.server import choose_source
    from kitmsg_gateways.grpc.tls import GrpcTls

    try:
        Forwarding(options)
        choose_source(options)
    except ValueError as exc:
        raise InvalidArgument(str(exc)) from exc
    if options.tls_cert:
        GrpcTls(options)
    if not options.proto:
        warn_apart(options.workers, options.lock)


def listen(options: GatewayOptions) -> list[socket.socket]:
    """Return a socket that keeps the port for several processes; see `serve`.

    Raises:
        OSError: The address cannot be had; ``errno.EADDRINUSE`` when it is taken.
    """
    from kitmsg_gateways.grpc import ports

    return ports.listen(options)


def need_grpc() -> None:
    """Check that grpcio and its companions are there.

    Raises:
        FailedPrecondition: One is not; the message says how to install them.
    """
    try:
        for name in _NEEDED:
            importlib.import_module(name)
    except ImportError as exc:
        from kitmsg.errors import FailedPrecondition

        raise FailedPrecondition(
            f"the gRPC gateway needs {exc.name}: pip install 'kitmsg[grpc]'"
        ) from exc
