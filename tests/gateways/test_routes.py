"""Every door takes the rules that say which instances of a service get its calls."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import grpc.aio
import pytest
from thrift.transport.TSocket import TSocket

import kitmsg
import kitmsg_gateways.grpc
import kitmsg_gateways.http
import kitmsg_gateways.mcp
import kitmsg_gateways.thrift
from kitmsg import Context, Kit, Service, endpoint
from kitmsg.wire import IDEMPOTENCY_KEY
from tests.gateways.mcp.conftest import Outside as McpClients, text_of
from tests.gateways.thrift.test_auth import Speaker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from kitmsg.bus.memory import MemoryBus

PACKAGES = {
    "http": kitmsg_gateways.http,
    "grpc": kitmsg_gateways.grpc,
    "thrift": kitmsg_gateways.thrift,
    "mcp": kitmsg_gateways.mcp,
}
NAME = "x-kit-version"
KEY = "idempotency-key"


@pytest.fixture
def anyio_backend() -> str:
    """Run on plain asyncio, as gRPC's core wants."""
    return "asyncio"


class Shop(Service):
    """Says which of its instances answers."""

    told: list[str]

    @endpoint(http="GET /tea")
    async def tea(self, ctx: Context) -> str:
        """Return the version, and the idempotency key if there is one."""
        return f"{self.version} {ctx.headers.get(IDEMPOTENCY_KEY, '')}".strip()

    @endpoint(http="GET /watch")
    async def watch(self) -> AsyncIterator[str]:
        """Yield the version."""
        yield self.version

    @endpoint
    async def note(self) -> None:
        """Note the version."""
        self.told.append(self.version)


@pytest.fixture
async def begin(memory_bus: MemoryBus) -> AsyncIterator[Callable[..., Any]]:
    """Give a function that starts a door of a kind, in front of two versions."""
    servers, Shop.told = [], []
    async with kitmsg.connect(bus=memory_bus) as kit:
        for number in ("1.4.0", "1.5.0"):
            shop = type("Shop", (Shop,), {"version": number, "name": "shop"})
            await Kit(kit.bus).serve(shop())

        async def start(kind: str, *rules: str, **options: Any) -> Any:
            package: Any = PACKAGES[kind]
            chosen = package.GatewayOptions(
                port=0, drain_timeout=0.1, route=rules, **options
            )
            servers.append(await package.serve(kit, chosen))
            return servers[-1]

        yield start
        for server in servers:
            await server.stop()


async def over_http(server: Any, sent: dict[str, str]) -> str:
    """Return the version that answers."""
    async with (
        aiohttp.ClientSession(server.url) as session,
        session.get("/tea", headers=sent) as response,
    ):
        return str(await response.json())


async def over_jsonrpc(server: Any, sent: dict[str, str]) -> str:
    """Return the version that answers."""
    call = {"jsonrpc": "2.0", "method": "shop.tea", "id": 1}
    async with (
        aiohttp.ClientSession(server.url) as session,
        session.post("/rpc", headers=sent, json=call) as response,
    ):
        return str((await response.json())["result"])


async def over_events(server: Any, sent: dict[str, str]) -> str:
    """Return the version that a stream tells of."""
    async with (
        aiohttp.ClientSession(server.url) as session,
        session.get(
            "/watch", headers={**sent, "Accept": "text/event-stream"}
        ) as response,
    ):
        line = next(x for x in (await response.text()).splitlines() if "data:" in x)
        return str(json.loads(line.partition(":")[2]))


async def over_grpc(server: Any, sent: dict[str, str]) -> str:
    """Return the version that answers."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        ask = channel.unary_unary("/shop.Shop/Tea")
        answer = await ask(b"", metadata=tuple(sent.items()), timeout=10)
    return bytes(answer[2:]).decode()


async def over_grpc_stream(server: Any, sent: dict[str, str]) -> str:
    """Return the version that a stream tells of."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        watch = channel.unary_stream("/shop.Shop/Watch")
        call = watch(b"", metadata=tuple(sent.items()), timeout=10)
        (answer,) = [each async for each in call]
    return bytes(answer[2:]).decode()


async def over_thrift(server: Any, sent: dict[str, str]) -> str:
    """Return the version that answers."""

    def work() -> str:
        speaker = Speaker(TSocket("127.0.0.1", server.port), "binary")
        try:
            return speaker.call("tea", sent)
        finally:
            speaker.close()

    return await asyncio.to_thread(work)


async def over_mcp(server: Any, sent: dict[str, str]) -> str:
    """Return the version that answers."""
    async with McpClients(server).client("legacy", headers=sent) as client:
        return str(json.loads(text_of(await client.call_tool("shop.tea", {}))))


async def by_meta(server: Any, sent: dict[str, str]) -> str:
    """Return the version that answers to what stands in the call itself."""
    meta: Any = {key.title(): value for key, value in sent.items()}
    if KEY in sent:
        meta = {"kitmsg/idempotency-key": sent[KEY]}
    async with McpClients(server).client("legacy") as client:
        found = await client.call_tool("shop.tea", {}, meta=meta)
        return str(json.loads(text_of(found)))


DOORS = {
    "http": over_http,
    "http, JSON-RPC": over_jsonrpc,
    "http, server-sent events": over_events,
    "grpc": over_grpc,
    "grpc, streams": over_grpc_stream,
    "thrift": over_thrift,
    "mcp": over_mcp,
    "mcp, _meta": by_meta,
}
STREAMS = ("http, server-sent events", "grpc, streams")


@pytest.mark.parametrize("kind", DOORS)
async def test_a_door_goes_by_its_rules(begin: Callable[..., Any], kind: str) -> None:
    """The client's wish counts first, then the operator's."""
    call: Callable[..., Awaitable[str]] = DOORS[kind]
    door = kind.partition(",")[0]
    server = await begin(door, f"shop=version:@{NAME}", "shop=version:==1.4.0")
    assert {await call(server, {}) for _ in range(4)} == {"1.4.0"}
    assert {await call(server, {NAME: "1.5"}) for _ in range(4)} == {"1.5.0"}


@pytest.mark.parametrize("kind", [kind for kind in DOORS if kind not in STREAMS])
async def test_a_door_takes_idempotency_keys(
    begin: Callable[..., Any], kind: str
) -> None:
    """Under the usual name of HTTP, whatever is spoken."""
    call: Callable[..., Awaitable[str]] = DOORS[kind]
    server = await begin(kind.partition(",")[0], "version:1.4")
    assert await call(server, {KEY: "k-1"}) == "1.4.0 k-1"


async def test_what_is_no_version_is_a_400(begin: Callable[..., Any]) -> None:
    """It names the header; a version that nobody serves is told from it."""
    server = await begin("http", f"version:@{NAME}")
    async with aiohttp.ClientSession(server.url) as session:
        async with session.get("/tea", headers={NAME: "new"}) as response:
            assert response.status == 400
            assert f"header {NAME} must be a version" in await response.text()
        async with session.get("/tea", headers={NAME: "9"}) as response:
            assert response.status == 503
            assert "Retry-After" in response.headers
            assert "no instance of shop for version:9" in await response.text()


@pytest.mark.parametrize("value", ["new", "9"])
async def test_thrift_answers_what_cannot_be_routed(
    begin: Callable[..., Any], value: str
) -> None:
    """The connection goes on."""
    server = await begin("thrift", f"version:@{NAME}")
    with pytest.raises(Exception, match="version") as caught:
        await over_thrift(server, {NAME: value})
    assert type(caught.value).__name__ == "TApplicationException"
    assert await over_thrift(server, {NAME: "1.4"}) == "1.4.0"


async def test_pages_may_send_the_headers_of_rules(begin: Callable[..., Any]) -> None:
    """A browser asks first."""
    server = await begin(
        "http", f"version:@{NAME}", cors_origins=("https://shop.example",)
    )
    asks = {
        "Origin": "https://shop.example",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": NAME,
    }
    async with (
        aiohttp.ClientSession(server.url) as session,
        session.options("/tea", headers=asks) as response,
    ):
        allowed = response.headers["Access-Control-Allow-Headers"].lower()
        assert NAME in allowed.split(", ")
