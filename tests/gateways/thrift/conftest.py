"""A gateway on an in-memory bus, and thriftpy2's own client on a loopback port."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
from typing import TYPE_CHECKING, Any

import pytest
from thriftpy2.contrib.aio.protocol import (
    TAsyncBinaryProtocolFactory,
    TAsyncCompactProtocolFactory,
)
from thriftpy2.contrib.aio.rpc import make_client
from thriftpy2.contrib.aio.transport import (
    TAsyncBufferedTransportFactory,
    TAsyncFramedTransportFactory,
)
from thriftpy2.parser.parser import parse_fp

import kitmsg_gateways.thrift
from kitmsg.idl.service import shape_service
from kitmsg_gateways.thrift import GatewayOptions
from kitmsg_gateways.thrift.generate import generate
from kitmsg_gateways.thrift.protocol.base import Cursor, Limits
from kitmsg_gateways.thrift.protocol.binary import BinaryProtocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    import kitmsg
    from kitmsg.bus import Bus
    from kitmsg_gateways.thrift.server import GatewayServer

_number = itertools.count()
_PROTOCOLS = {
    "binary": TAsyncBinaryProtocolFactory,
    "compact": TAsyncCompactProtocolFactory,
}


def parsed(text: str) -> Any:
    """Return the module that thriftpy2 makes of an IDL."""
    return parse_fp(  # type: ignore[no-untyped-call]  # it has no types
        io.StringIO(text), f"test_{next(_number)}_thrift"
    )


class Outside:
    """What a Thrift caller has: a gateway's address, its IDL, and a client."""

    def __init__(self, server: GatewayServer, stack: contextlib.AsyncExitStack) -> None:
        self.server = server
        self._stack = stack

    def idl(self) -> str:
        """Return what `kitmsg export thrift` gives for the services on the bus."""
        catalog = self.server.catalogue.found
        return generate(
            [
                shape_service(name, [e for e in catalog.endpoints if e.service == name])
                for name in catalog.services
            ]
        )

    async def client(
        self,
        service: str,
        text: str = "",
        *,
        protocol: str = "binary",
        is_framed: bool = False,
        **options: Any,
    ) -> tuple[Any, Any]:
        """Return a client of a service, and the module of its IDL."""
        module = parsed(text or self.idl())
        transport = (
            TAsyncFramedTransportFactory()
            if is_framed
            else TAsyncBufferedTransportFactory()
        )
        client = await make_client(
            getattr(module, service),
            "127.0.0.1",
            self.server.port,
            proto_factory=_PROTOCOLS[protocol](),
            trans_factory=transport,
            **options,
        )
        self._stack.push_async_callback(_close, client)
        return client, module

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a connection of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        self._stack.callback(writer.close)
        return reader, writer

    async def raw(self, data: bytes, answers: int = 1) -> bytes:
        """Send bytes and return so many answers, without their frames' lengths.

        Args:
            data: In the binary protocol.
            answers: How many to wait for; 0 to read until the gateway closes.
        """
        reader, writer = await self.connect()
        writer.write(data)
        found = bytearray()
        async with asyncio.timeout(20):
            if not answers:
                with contextlib.suppress(ConnectionError):
                    found += await reader.read()
            end = 0
            for _ in range(answers):
                cursor = Cursor(found, end, Limits())
                for _ in BinaryProtocol(Limits()).scan(cursor):
                    part = await reader.read(1 << 16)
                    if not part:
                        raise EOFError(bytes(found))
                    found += part
                end = cursor.position
        writer.close()
        return bytes(found)


async def _close(client: Any) -> None:
    """Close a client's connection; its own `close` leaves the transport open."""
    socket = client._oprot.trans
    while not hasattr(socket, "writer"):
        socket = socket._trans
    socket.writer.close()
    with contextlib.suppress(OSError):
        await socket.writer.wait_closed()


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Any]]:
    """Give a function that starts a gateway, with options, and returns an `Outside`."""
    async with contextlib.AsyncExitStack() as stack:

        async def begin(on: kitmsg.Kit | Bus, **options: Any) -> Outside:
            chosen = GatewayOptions(**{"port": 0, "drain_timeout": 0.5, **options})
            server = await kitmsg_gateways.thrift.serve(on, chosen)
            stack.push_async_callback(server.stop)
            return Outside(server, stack)

        yield begin


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Give a function that writes an IDL to a file and returns its path."""

    def save(text: str, name: str = "own.thrift") -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return save
