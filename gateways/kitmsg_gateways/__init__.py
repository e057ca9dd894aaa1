"""The edge: processes that speak another protocol outside and the bus inside.

    http/        every service on the bus, of any language, as HTTP and JSON
    grpc/        the same over gRPC, with messages made from the schemas
    thrift/      the same over Thrift
    mcp/         the same as tools for models, over MCP
    edge/        what every door has, whatever its protocol
    upstream/    the other direction: a server elsewhere as a service on the bus

A gateway knows `kitmsg`; kitmsg does not know the gateways, and they do not know each
other.
"""

from __future__ import annotations

import kitmsg.importpath  # noqa: F401  # before all others, for python -m: see there
