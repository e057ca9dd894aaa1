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
    errors.py     errors as answers of their own kind, and back
    upstream/     the other direction: a Thrift service elsewhere, served on the bus

::

    async with kitmsg.connect() as kit:
        server = await kitmsg_gateways.thrift.serve(kit, port=8083)
        ...
        await server.stop()

Needs the extra ``thrift`` (thriftpy2, which reads IDLs), loaded when a gateway is made.
Left out: streams, which have no form in Thrift; the JSON protocols; THeader's transforms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kitmsg_gateways.edge.package import Package
from kitmsg_gateways.thrift.options import EXTRA, GatewayOptions

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
    "run",
    "serve",
]

TITLE: Final = EXTRA.title

package: Final[Package[GatewayOptions, GatewayServer]] = Package(
    __name__, GatewayOptions, EXTRA
)
serve, run, check = package.serve, package.run, package.check
listen, __getattr__ = package.listen, package.attribute
