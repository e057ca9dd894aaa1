"""gRPC outside, the bus inside: every service found on the bus, with no .proto written.

    options.py    `GatewayOptions`: limits, times, switches
    server.py     `GatewayServer`: the port, methods that come and go, start and stop
    table.py      what is served at one time
    method.py     one method: where its calls go, how its messages are read
    generated.py  methods made from the schemas on the bus
    proto.py      schemas to protobuf descriptors and .proto text
    convert.py    messages to plain values and back
    user.py       methods of a .proto of the user's own
    call.py       one call: over the bus and back, streams too
    metadata.py   what crosses beside the request: headers, deadline, request id
    status.py     errors as statuses with details, and back
    health.py     grpc.health.v1
    reflection.py server reflection, v1 and v1alpha
    tls.py        credentials from files
    metrics.py    counts and times of calls
    upstream.py   the other direction: a gRPC service elsewhere, served on the bus

::

    async with kitmsg.connect() as kit:
        server = await gateways.grpc.serve(kit, port=50051)
        ...
        await server.stop()

Needs the extra ``grpc`` (grpcio and its health, reflection and status packages), loaded
when a gateway is made.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from gateways.grpc.options import GatewayOptions

if TYPE_CHECKING:
    from gateways.grpc.server import GatewayServer
    from kitmsg.bus import Bus
    from kitmsg.service import Kit

__all__ = ["GatewayOptions", "need_grpc", "serve"]

_NEEDED: Final = (
    "grpc.aio",
    "grpc_health",
    "grpc_reflection",
    "google.rpc.status_pb2",
)


async def serve(
    kit_or_bus: Kit | Bus,
    options: GatewayOptions | None = None,
    *,
    host: str | None = None,
    port: int | None = None,
) -> GatewayServer:
    """Start a gateway on a bus; returns when it accepts calls.

    The bus stays its maker's: stopping the gateway does not close it.

    Args:
        kit_or_bus: The bus, or a kit on it.
        options: Limits, times and switches.
        host: Address to listen on, instead of the one in `options`.
        port: Port to listen on, instead of the one in `options`; 0 for a free one.

    Raises:
        FailedPrecondition: grpcio is not installed, a file cannot be used, or a service
            does not fit the .proto that was given.
        ValueError: An option does not fit.
        OSError: The address cannot be had; ``errno.EADDRINUSE`` when it is taken.
    """
    need_grpc()
    from gateways.grpc.server import GatewayServer
    from kitmsg.service import Kit

    bus = kit_or_bus.bus if isinstance(kit_or_bus, Kit) else kit_or_bus
    server = GatewayServer(bus, (options or GatewayOptions()).at(host, port))
    await server.start()
    return server


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
