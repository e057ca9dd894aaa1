"""A gateway on an in-memory bus, and the protocol's own client on a loopback port."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

import kitmsg_gateways.mcp
from kitmsg.discovery.subject import EndpointInfo, Responder, ServiceInfo, ServiceReport
from kitmsg_gateways.mcp import GatewayOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import kitmsg
    from kitmsg.bus import Bus
    from kitmsg.bus.memory import MemoryBus
    from kitmsg_gateways.mcp.server import GatewayServer

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
ACCEPT = {"Accept": "application/json, text/event-stream"}


class Outside:
    """What a client has: a gateway's address."""

    def __init__(self, server: GatewayServer) -> None:
        self.server = server

    @contextlib.asynccontextmanager
    async def client(
        self,
        mode: str = "auto",
        *,
        verify: Any = True,
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> AsyncIterator[Client]:
        """Give a client of the protocol's own package.

        Args:
            mode: ``auto`` for the newest version, ``legacy`` for one with sessions.
            verify: How TLS is checked.
            headers: More headers of each request.
            options: Of the client.
        """
        async with httpx2.AsyncClient(headers=headers, verify=verify) as http:
            transport = streamable_http_client(self.server.url, http_client=http)
            async with Client(transport, mode=mode, **options) as client:
                yield client

    async def post(
        self, body: Any = INITIALIZE, *, path: str = "", **headers: str
    ) -> httpx2.Response:
        """Return the response to one request."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with httpx2.AsyncClient() as http:
            return await http.post(
                self.server.url + path, json=body, headers={**ACCEPT, **named}
            )


def text_of(result: Any) -> str:
    """Return the text of a result."""
    return "\n".join(each.text for each in result.content)


@pytest.fixture(params=["legacy", "auto"])
def mode(request: pytest.FixtureRequest) -> str:
    """Both kinds of the protocol: with sessions, and without."""
    return str(request.param)


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Any]]:
    """Give a function that starts a gateway, with options, and returns an `Outside`."""
    async with contextlib.AsyncExitStack() as stack:

        async def begin(on: kitmsg.Kit | Bus, **options: Any) -> Outside:
            usual = {"port": 0, "drain_timeout": 0.5, "allowed_hosts": ("*",)}
            chosen = GatewayOptions(**{**usual, **options})
            server = await kitmsg_gateways.mcp.serve(on, chosen)
            stack.push_async_callback(server.stop)
            return Outside(server)

        yield begin


@pytest.fixture
def foreign(memory_bus: MemoryBus) -> Callable[..., Responder]:
    """Give a function that announces a service as a plain micro service does."""

    def announce(name: str, *subjects: str, **names: str) -> Responder:
        endpoints = [
            EndpointInfo(
                name=names.get("endpoint") or subject.rpartition(".")[2],
                subject=subject,
                metadata={"kit.schema": names["schema"]} if "schema" in names else {},
            )
            for subject in subjects
        ]
        info = ServiceInfo(
            name=name, id=f"{name}-1", version="1.0.0", endpoints=endpoints
        )
        report = ServiceReport(
            name=name, id=info.id, version=info.version, started="", endpoints=[]
        )
        responder = Responder(memory_bus, info, lambda: report)
        responder.start()
        return responder

    return announce


@pytest.fixture
def free_port() -> int:
    """Return a port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
