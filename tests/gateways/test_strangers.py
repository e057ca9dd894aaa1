"""With authentication on, no method of any door answers a stranger but those named open.

Each test walks all that its door serves, the door's own pages and methods included, so that
what is added later is looked at too.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import grpc.aio
import pytest

import kitmsg
import kitmsg_gateways.grpc
import kitmsg_gateways.http
import kitmsg_gateways.mcp
import kitmsg_gateways.thrift
from kitmsg import Service, endpoint
from kitmsg_gateways.http.pages import RESERVED
from tests.auth.tokens import SECRET, sign
from tests.gateways.mcp.conftest import ACCEPT, INITIALIZE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from kitmsg.bus.memory import MemoryBus

PACKAGES = {
    "http": kitmsg_gateways.http,
    "grpc": kitmsg_gateways.grpc,
    "thrift": kitmsg_gateways.thrift,
    "mcp": kitmsg_gateways.mcp,
}
OPEN = {"/healthz", "/readyz"}


@pytest.fixture
def anyio_backend() -> str:
    """Run on plain asyncio, as gRPC's core wants."""
    return "asyncio"


class Secrets(Service):
    """Must not be reached, nor heard of."""

    calls = 0

    @endpoint(http="GET /secrets/{key}")
    async def get(self, key: str) -> str:
        Secrets.calls += 1
        return key

    @endpoint
    async def put(self, name: str) -> None:
        Secrets.calls += 1

    @endpoint(http="GET /watch")
    async def watch(self) -> AsyncIterator[str]:
        Secrets.calls += 1
        yield "x"

    @endpoint
    async def take(self, items: AsyncIterator[bytes]) -> int:
        Secrets.calls += 1
        return len([item async for item in items])


@pytest.fixture
async def guarded(memory_bus: MemoryBus, tmp_path: Path) -> AsyncIterator[Any]:
    """Give a function that starts a door of a kind, which takes tokens."""
    (tmp_path / "secret").write_text(SECRET)
    Secrets.calls = 0
    servers = []
    async with kitmsg.connect(bus=memory_bus) as kit:
        await kit.serve(Secrets())

        async def begin(kind: str) -> Any:
            package: Any = PACKAGES[kind]
            options = package.GatewayOptions(
                port=0,
                drain_timeout=0.1,
                jwt_key=str(tmp_path / "secret"),
                jwt_algorithms=("HS256",),
            )
            server = await package.serve(kit, options)
            servers.append(server)
            return server

        yield begin
        for server in servers:
            await server.stop()


async def test_http(guarded):
    """Pages, routes, JSON-RPC, streams and WebSockets, by each method."""
    server = await guarded("http")
    routes = [(r.method, r.template) for r in server.table.router.routes]
    paths = [*RESERVED, "/rpc/secrets", "/schemas/x", "/no", "/"]
    paths += [f"/schemas/{hash_}" for hash_ in server.table.schemas]
    asked = [*routes, *((m, p) for p in paths for m in ("GET", "POST", "OPTIONS"))]
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    assert len(routes) >= 6
    async with aiohttp.ClientSession(server.url) as session:
        for method, path in asked:
            for headers in ({}, upgrade, {"Authorization": "Bearer x"}):
                async with session.request(
                    method, path, headers=headers, json={}, allow_redirects=False
                ) as response:
                    if path in OPEN:
                        continue
                    assert (response.status, method, path) == (401, method, path)
                    assert b"ecrets.put" not in await response.read()
        token = {"Authorization": f"Bearer {sign(SECRET, 'HS256')}"}
        async with session.get("/secrets/7", headers=token) as response:
            assert response.status == 200
    assert Secrets.calls == 1


async def test_grpc(guarded):
    """Methods of services, health of theirs, both versions of reflection."""
    server = await guarded("grpc")
    paths = [*server._handlers, "/no.Such/Method"]
    assert len(paths) >= 9
    metadata = (("authorization", "Bearer x"),)
    named = b"\x0a\x07secrets"  # a service's name, where health asks for one
    async with grpc.aio.insecure_channel(server.address) as channel:
        for path in paths:
            for given in ((), metadata):
                call = channel.stream_stream(path)(
                    iter([named]), metadata=given, timeout=10
                )
                assert (await call.code(), path) == (
                    grpc.StatusCode.UNAUTHENTICATED,
                    path,
                )
                assert "ecrets" not in (await call.details()).replace(path, "")
        token = (("authorization", f"Bearer {sign(SECRET, 'HS256')}"),)
        ask = channel.unary_unary("/secrets.Secrets/Put")
        assert await ask(b"", metadata=token, timeout=10) == b""
    assert Secrets.calls == 1


async def test_thrift(guarded):
    """Each name of each method, called as clients do that have no headers."""
    server = await guarded("thrift")
    names = [name.decode() for name in server.table.methods] + ["no", "Secrets:no"]
    assert len(names) >= 6
    for name in names:
        call = b"\x80\x01\x00\x01" + len(name).to_bytes(4) + name.encode() + bytes(5)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(call)
        async with asyncio.timeout(10):
            answer = await reader.readuntil(b"unauthenticated: ")
        writer.close()
        assert b"Secrets" not in answer.replace(name.encode(), b"")
    assert Secrets.calls == 0


async def test_mcp(guarded):
    """Whatever is asked: sessions, lists, calls, news."""
    server = await guarded("mcp")
    call = {"name": "secrets.put", "arguments": {"name": "x"}}
    bodies = [
        INITIALIZE,
        {"jsonrpc": "2.0", "id": 1, "method": "tools/list"},
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call},
        {"jsonrpc": "2.0", "id": 1, "method": "ping"},
        [],
    ]
    async with aiohttp.ClientSession() as session:
        for method in ("POST", "GET", "DELETE", "OPTIONS", "PUT"):
            for body in bodies:
                for headers in (ACCEPT, {**ACCEPT, "Authorization": "Bearer x"}):
                    async with session.request(
                        method, server.url, json=body, headers=headers
                    ) as response:
                        assert (response.status, method) == (401, method)
                        assert b"secrets" not in await response.read()
    assert Secrets.calls == 0
