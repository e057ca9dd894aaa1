"""gRPC outside, the bus inside: every service found on the bus, with no .proto written.

    options.py    `GatewayOptions`, beside what all doors have
    server.py     `GatewayServer`: gRPC's own server on the edge's lifecycle
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
    values.py       values of one kind each, Timestamp and Duration too
    call.py       one call: over the bus and back, streams too
    peer.py       the client of a call: address, certificate, credentials
    reading.py    messages of clients, within the budget of bytes
    metadata.py   what crosses beside the request: headers, deadline, request id
    errors.py     errors as statuses with details, and back
    health.py     grpc.health.v1
    events.py     kit.events.v1: open events, published and followed
    reflection.py server reflection, v1 and v1alpha
    tls.py        the port and the certificates of gRPC's core
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

from typing import TYPE_CHECKING, Final

from kitmsg_gateways.edge.package import Package
from kitmsg_gateways.grpc.options import EXTRA, GatewayOptions

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
    "run",
    "serve",
]

TITLE: Final = EXTRA.title

package: Final[Package[GatewayOptions, GatewayServer]] = Package(
    __name__, GatewayOptions, EXTRA
)
serve, run, check = package.serve, package.run, package.check
listen, __getattr__ = package.listen, package.attribute
