"""MCP outside, the bus inside: every endpoint found on the bus is a tool for a model.

    options.py    `GatewayOptions`, beside what all doors have
    server.py     `GatewayServer`: sessions on the edge's lifecycle
    methods.py    endpoints as tools: names, schemas, descriptions
    call.py       one call: over the bus and back
    errors.py     errors as results that a model can read

Left out: resources and prompts, which endpoints have no form of; OAuth's discovery.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kitmsg_gateways.edge.package import Package
from kitmsg_gateways.mcp.options import EXTRA, GatewayOptions

if TYPE_CHECKING:
    from kitmsg_gateways.mcp.server import GatewayServer

__all__ = [
    "TITLE",
    "GatewayOptions",
    "GatewayServer",
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
