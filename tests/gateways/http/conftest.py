"""A gateway on an in-memory bus, and a real HTTP client on a loopback port."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

import kitmsg_gateways.http
from kitmsg.discovery.subject import (
    EndpointInfo,
    Responder,
    ServiceInfo,
    ServiceReport,
)
from kitmsg_gateways.http import GatewayOptions
from tests.gateways.http.shop import Shop
from tests.require import miss

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import kitmsg
    from kitmsg.bus import Bus
    from kitmsg.bus.memory import MemoryBus
    from kitmsg_gateways.http.server import GatewayServer

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Outside:
    """What an HTTP caller has: a gateway's address and a client."""

    def __init__(self, server: GatewayServer, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.session = session

    async def __call__(
        self, method: str, path: str, **kwargs: Any
    ) -> tuple[aiohttp.ClientResponse, Any]:
        """Return the response and its body: JSON as objects, anything else as bytes."""
        kwargs.setdefault("allow_redirects", False)
        async with self.session.request(method, path, **kwargs) as response:
            body = await response.read()
            if "json" in response.content_type and body:
                return response, await response.json(content_type=None)
            return response, body

    async def raw(self, data: bytes, *, until_closed: bool = True) -> bytes:
        """Send bytes on a connection of its own and return what comes back."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.server.port, limit=1 << 20
        )
        try:
            writer.write(data)
            async with asyncio.timeout(20):
                if until_closed:
                    return await reader.read()
                return await reader.readuntil(b"\r\n\r\n")
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Any]]:
    """Give a function that starts a gateway, with options, and returns an `Outside`."""
    async with contextlib.AsyncExitStack() as stack:

        async def begin(on: kitmsg.Kit | Bus, **options: Any) -> Outside:
            usual = {"port": 0, "drain_timeout": 0.5, "allowed_hosts": ("*",)}
            chosen = GatewayOptions(**{**usual, **options})
            server = await kitmsg_gateways.http.serve(on, chosen)
            stack.push_async_callback(server.stop)
            session = aiohttp.ClientSession(server.url)
            await stack.enter_async_context(session)
            return Outside(server, session)

        yield begin


@pytest.fixture
def foreign(memory_bus: MemoryBus) -> Callable[..., Responder]:
    """Give a function that announces a service as a plain micro service does."""

    def announce(name: str, *subjects: str, **options: Any) -> Responder:
        metadata = options.get("metadata", {})
        info = ServiceInfo(
            name=name,
            id=options.get("id", f"{name}-1"),
            version=options.get("version", "1.0.0"),
            endpoints=[
                EndpointInfo(
                    name=options.get("endpoint") or subject.rpartition(".")[2],
                    subject=subject,
                    metadata=metadata,
                )
                for subject in subjects
            ],
        )
        report = ServiceReport(
            name=name, id=info.id, version=info.version, started="", endpoints=[]
        )
        responder = Responder(memory_bus, info, lambda: report)
        responder.start()
        return responder

    return announce


@pytest.fixture
def chromium() -> str:
    """The path of a browser."""
    found = [path for path in map(shutil.which, BROWSERS) if path]
    return (
        found[0] if found else miss("chromium is not on PATH; install it to run this")
    )


@pytest.fixture
async def shop(hub: kitmsg.Kit) -> Shop:
    """A shop on the bus."""
    shop = Shop()
    await hub.serve(shop)
    return shop


@pytest.fixture
async def call(hub, shop, start):
    """A client of a gateway in front of the shop."""
    return await start(hub)
