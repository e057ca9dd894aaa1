"""Go kit for Python, on a message bus.

From your class down to the wire:

    service/       `Service`, `endpoint`: a class with typed async methods
    endpoints.py   `Endpoint`: async (Context, Request) -> Response; `chain`
    middleware/    Endpoint -> Endpoint; circuit.py and rolling.py: what breakers share;
                   turnover.py: when a place comes free;
                   leases.py: limits of a fleet; answers.py: answers that it keeps
    transport/     messages to endpoint calls, and endpoint calls to messages
    mailbox.py     the bounded queue in front of a service; pace.py: when it is shorter
    threads.py     the threads that blocking endpoints run in
    bus/           subjects, queue groups, request and reply
    events/        what happened, what shall be done, and when: stored until it is done
    outbox/        events that leave when a database transaction commits
    jetstream/     streams, consumers and key-value buckets on NATS

Beside them:

    errors.py      `Code` and the `KitError` tree
    context.py     `Context`: deadline, metadata, principal, trace; `current`
    message.py     `Message`, `Headers`; wire.py: the names of headers and subjects
    codec/         MessagePack, JSON, bytes
    schema/        signatures to types, to JSON Schema
    idl/           what gRPC, Thrift and export share
    discovery/     services and instances, on the bus and elsewhere
    asyncapi.py    the AsyncAPI document of the events on a bus
    balance/       which instance gets a call, and which one the next attempt
    auth/          credentials to principals
    metrics/       counters, and the text that Prometheus reads
    logs/          lines for people and machines, with the ids of the turn
    tracing/       spans on every hop, and where they go
    worker/        processes: signals, drain, supervision, health
    cli/           ``kitmsg VERB``
    testing/       virtual time, fakes, the pytest plugin
    loops.py       the event loop; importpath.py: where modules are looked up
    filemarks.py   whether a file has changed since it was read

The gateways, which speak HTTP, gRPC, Thrift or MCP outside and the bus inside, are the package
`kitmsg_gateways`.
"""

from __future__ import annotations

import kitmsg.importpath  # noqa: F401  # isort: skip  # before all others: see there
from kitmsg import errors
from kitmsg.context import Context, current
from kitmsg.endpoints import Endpoint, Middleware, Req, Resp, chain, make_endpoint
from kitmsg.errors import BusinessError, Code, KitError
from kitmsg.events import (
    Event,
    Reject,
    Stream,
    background,
    cron,
    every,
    subscribe,
    upcast,
)
from kitmsg.service import Kit, Service, Supervision, connect, detached, endpoint

__all__ = [
    "BusinessError",
    "Code",
    "Context",
    "Endpoint",
    "Event",
    "Kit",
    "KitError",
    "Middleware",
    "Reject",
    "Req",
    "Resp",
    "Service",
    "Stream",
    "Supervision",
    "background",
    "chain",
    "connect",
    "cron",
    "current",
    "detached",
    "endpoint",
    "errors",
    "every",
    "make_endpoint",
    "run",
    "subscribe",
    "upcast",
]

__version__ = "0.1.0"


def run(*services: Service | type[Service]) -> None:
    """Serve until SIGTERM or Ctrl-C, then drain: ``kitmsg.run(Greeter())``.

    One worker in this process, on the bus that ``NATS_URL`` names, else the local one.
    """
    from kitmsg.worker import run_here

    run_here(*services)
