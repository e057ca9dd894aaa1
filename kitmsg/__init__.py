"""Go kit for Python, on a message bus.

The words, from your class down to the wire:

    service     a class with typed async methods              kitmsg.service
    endpoint    one of them: async (Context, Request) -> Response  kitmsg.endpoints
    middleware  Endpoint -> Endpoint                          kitmsg.middleware
    transport   messages <-> endpoint calls                   kitmsg.transport
    mailbox     the bounded queue in front of a service       kitmsg.mailbox
    bus         subjects, queue groups, request and reply     kitmsg.bus

Beside them: errors, context, codec, schema, discovery, metrics; worker (processes), cli,
testing; importpath (where modules are looked up).  The gateways, which speak HTTP, gRPC or
Thrift outside and the bus inside, are the package `kitmsg_gateways`.
"""

from __future__ import annotations

import kitmsg.importpath  # noqa: F401  # isort: skip  # before all others: see there
from kitmsg import errors
from kitmsg.context import Context, current
from kitmsg.endpoints import Endpoint, Middleware, chain, make_endpoint
from kitmsg.errors import BusinessError, Code, KitError
from kitmsg.service import Kit, Service, Supervision, connect, endpoint

__all__ = [
    "BusinessError",
    "Code",
    "Context",
    "Endpoint",
    "Kit",
    "KitError",
    "Middleware",
    "Service",
    "Supervision",
    "chain",
    "connect",
    "current",
    "endpoint",
    "errors",
    "make_endpoint",
    "run",
]

__version__ = "0.1.0"


def run(*services: Service | type[Service]) -> None:
    """Serve until SIGTERM or Ctrl-C, then drain: ``kitmsg.run(Greeter())``.

    One worker in this process, on the bus that ``NATS_URL`` names, else the local one.
    """
    from kitmsg.worker import run_here

    run_here(*services)
