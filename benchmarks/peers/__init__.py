"""The programs that are compared, one file each, all of the same shape.

    kit.py        kitmsg by its declarative face; variants switch its defaults off
    transport.py  kitmsg's transport.Client and Server, without classes and proxies
    echo.py       kitmsg's connection and nothing on it: the limit
    natspy.py     nats-py, a plain callback
    micro.py      nats-py's `nats.micro`
    stream.py     FastStream's request and reply
    tape.py       kitmsg's streams
    gateway.py    kitmsg's gateways
    grpcio.py     grpcio without a bus, and the client for gRPC
    thriftpy.py   thriftpy2 without a bus, and the client for Thrift
    fast.py       FastAPI in front of FastStream
    plain.py      aiohttp without a bus
    websocket.py  echo over WebSockets, with the bus and without
    trial.py      what a load generator measures each time that it is asked
    events/       events: stored, consumed, told, heard
    gokit/        Go kit's NATS and HTTP transports, and a load generator for HTTP

A module has ``serve(setting)``, which returns when calls are answered, ``connect(setting)``,
which returns a call of no arguments that asks for 1 + 2, or a `trial.Trial`; or both.
``python -m benchmarks.peers MODULE serve|load URL CODEC VARIANT PORT`` runs one in a process
of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeAlias

__all__ = ["Call", "Setting"]

Call: TypeAlias = Callable[[], Awaitable[int]]
"""Asks a peer for 1 + 2."""


class Setting(NamedTuple):
    """What a peer is told.

    Attributes:
        url: Address of the NATS server.
        codec: ``json`` or ``msgpack``.
        variant: What the module makes of it; "" for the usual.
        port: Port to serve HTTP on; 0 for none.
    """

    url: str
    codec: str = "json"
    variant: str = ""
    port: int = 0
