"""Shared parts of the upstreams, which put servers that are not on the bus on it.

    instancer.py   addresses in the form of the protocol, from any system of discovery
    pool.py        `Pool` picks a server for each call; goes on to the next one
    hooks.py       `Hooks`: before, after, error decoder, finalizer
    client.py      Go kit's client phases around a protocol's `Transport` and `Method`s,
                   with deadline, trace, request id and metadata of a call
    items.py       the items of a reply that streams, whose end is told once
    spans.py       client spans of the calls
    counts.py      their metrics
    options.py     options of every upstream; header values from files; TLS
    errors.py      failures of a connection as errors
    offers.py      which endpoints are wanted; a class's own settings
    typed.py       a class's endpoint with plain values on its other side
    protocol.py    `ProtocolUpstream`: the one constructor of HTTP, gRPC and Thrift
    upstream.py    `Upstream`: endpoints elsewhere as a service, on the bus or in process

A protocol's package `kitmsg_gateways.KIND.upstream` has the same leaves: ``options``,
``offer`` (by a class, or by an interface description), ``describe`` (that description as
JSON Schemas), ``call`` (request and reply of one endpoint) and ``client`` (connections).

Left out: the systems of discovery, which are `kitmsg.discovery`'s.
"""

from __future__ import annotations

from kitmsg_gateways.upstream.client import (
    Client,
    Method,
    Outgoing,
    Transport,
    outgoing,
)
from kitmsg_gateways.upstream.hooks import Hooks
from kitmsg_gateways.upstream.instancer import Instancer, fixed
from kitmsg_gateways.upstream.options import CommonOptions
from kitmsg_gateways.upstream.pool import CannotConnect, Pool
from kitmsg_gateways.upstream.protocol import Offered, ProtocolUpstream
from kitmsg_gateways.upstream.upstream import Remote, Upstream

__all__ = [
    "CannotConnect",
    "Client",
    "CommonOptions",
    "Hooks",
    "Instancer",
    "Method",
    "Offered",
    "Outgoing",
    "Pool",
    "ProtocolUpstream",
    "Remote",
    "Transport",
    "Upstream",
    "fixed",
    "outgoing",
]
