"""What of the bus a door serves is chosen, and nothing else is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import grpc.aio
import pytest

import kitmsg
from kitmsg import Service, endpoint
from kitmsg_gateways.edge.options import ShownOptions
from kitmsg_gateways.http import GatewayOptions
from tests.auth.tokens import SECRET
from tests.gateways.test_strangers import PACKAGES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from kitmsg.bus.memory import MemoryBus

KINDS = tuple(PACKAGES)


@pytest.fixture
def anyio_backend() -> str:
    """Run on plain asyncio, as gRPC's core wants."""
    return "asyncio"


class Shop(Service):
    """Sells."""

    @endpoint(http="GET /tea")
    async def tea(self) -> str:
        return "tea"

    @endpoint(http="GET /coffee")
    async def coffee(self) -> str:
        return "coffee"

    @endpoint(http="GET /recount", internal=True)
    async def recount(self) -> int:
        return 7


class Ledger(Service):
    """Counts."""

    @endpoint(http="GET /total")
    async def total(self) -> int:
        return 7


@pytest.fixture
async def kit(memory_bus: MemoryBus) -> AsyncIterator[kitmsg.Kit]:
    """A bus with two services."""
    async with kitmsg.connect(bus=memory_bus) as found:
        await found.serve(Shop())
        await found.serve(Ledger())
        yield found


@pytest.fixture
async def begin(kit: kitmsg.Kit) -> AsyncIterator[Callable[..., Any]]:
    """Give a function that starts a door of a kind, with options."""
    servers = []

    async def start(kind: str, **options: Any) -> Any:
        package: Any = PACKAGES[kind]
        chosen = package.GatewayOptions(port=0, drain_timeout=0.1, **options)
        servers.append(await package.serve(kit, chosen))
        return servers[-1]

    yield start
    for server in servers:
        await server.stop()


def served(kind: str, server: Any) -> set[str]:
    """Return the dotted names of what a door serves."""
    table = server.table
    if kind == "http":
        return {each.dotted for each in table.endpoints}
    if kind == "grpc":
        return {each.endpoint.dotted for each in table.methods.values()}
    if kind == "thrift":
        return {each.endpoint.dotted for each in table.methods.values()}
    return {each.endpoint.dotted for each in table.served.values()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, {"shop.tea", "shop.coffee", "ledger.total"}),
        ({"only": ("shop",)}, {"shop.tea", "shop.coffee"}),
        ({"only": ("shop.tea", "ledger.*")}, {"shop.tea", "ledger.total"}),
        ({"only": ("shop.recount",)}, set()),
        ({"hide": ("ledger",)}, {"shop.tea", "shop.coffee"}),
        ({"hide": ("*.t*",)}, {"shop.coffee"}),
        ({"only": ("shop",), "hide": ("shop.tea",)}, {"shop.coffee"}),
    ],
)
async def test_every_door_serves_what_is_chosen(begin, kind, options, names):
    """An internal endpoint is none of a door's, whatever the operator says."""
    assert served(kind, await begin(kind, **options)) == names


async def test_an_internal_endpoint_is_there_on_the_bus(kit):
    """It is only no door's."""
    assert await kit.client(Shop).recount() == 7


async def test_http_names_nothing_that_is_hidden(begin):
    """In pages, hints, refusals, JSON-RPC and the list of methods."""
    server = await begin("http", hide=("ledger", "shop.coffee"))
    async with aiohttp.ClientSession(server.url) as session:
        found = []
        for method, path, body in [
            *(("GET", path, None) for path in ("/openapi.json", "/readyz", "/totl")),
            *(("GET", path, None) for path in ("/total", "/recount", "/coffee")),
            ("OPTIONS", "/total", None),
            ("POST", "/ledger/total", {}),
            ("POST", "/rpc/ledger", {"jsonrpc": "2.0", "method": "total", "id": 1}),
            ("POST", "/rpc", {"jsonrpc": "2.0", "method": "ledger.totl", "id": 1}),
            ("POST", "/rpc", {"jsonrpc": "2.0", "method": "recoun", "id": 1}),
        ]:
            async with session.request(method, path, json=body) as response:
                text = await response.text()
                found.append(text.replace(path, "").replace("ledger.totl", ""))
        async with session.get("/tea") as response:
            assert await response.json() == "tea"
    told = "\n".join(found)
    for name in ("ledger", "total", "coffee", "recount"):
        assert f"{name}" not in told.replace("'recoun'", "").replace("recoun ", "")


async def test_grpc_names_nothing_that_is_hidden(begin):
    """Neither do reflection nor health know it."""
    server = await begin("grpc", hide=("ledger",))
    async with grpc.aio.insecure_channel(server.address) as channel:
        for path in ("/ledger.Ledger/Total", "/shop.Shop/Recount"):
            call = channel.unary_unary(path)(b"", timeout=10)
            assert await call.code() == grpc.StatusCode.UNIMPLEMENTED
            told = (await call.details()).replace(path, "")
            assert "Recount" not in told
            assert "Total" not in told
        listing = channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        )
        answers = b"".join([each async for each in listing(iter([b"\x3a\x00"]))])
    assert b"shop.Shop" in answers
    assert b"edger" not in answers


async def test_mcp_tells_models_of_no_hidden_service(begin):
    """Its instructions list the others."""
    server = await begin("mcp", hide=("ledger",))
    assert "shop" in server.table.instructions
    assert "ledger" not in server.table.instructions


@pytest.mark.parametrize(
    ("options", "there", "gone"),
    [
        ({}, ["/docs", "/openapi.json", "/metrics", "/schemas/"], []),
        ({"docs": False}, ["/openapi.json", "/metrics"], ["/docs", "/"]),
        (
            {"openapi": False},
            ["/metrics"],
            ["/docs", "/openapi.json", "/schemas/", "/"],
        ),
        ({"metrics_page": False}, ["/docs", "/openapi.json"], ["/metrics"]),
    ],
)
async def test_pages_have_switches(begin, options, there, gone):
    """Off, they are not found; probes stay."""
    server = await begin("http", **options)
    hash_ = next(iter(server.table.schemas))
    async with aiohttp.ClientSession(server.url) as session:
        for paths, status in ((there, 200), (gone, 404), (["/healthz"], 200)):
            for path in paths:
                whole = f"{path}{hash_}" if path == "/schemas/" else path
                async with session.get(whole, allow_redirects=False) as response:
                    assert (response.status, path) == (status, path)


async def test_strangers_get_no_hints(begin, tmp_path):
    """Below a path that is open to them: a hint would name what is not."""
    (tmp_path / "secret").write_text(SECRET)
    server = await begin(
        "http",
        jwt_key=str(tmp_path / "secret"),
        jwt_algorithms=("HS256",),
        auth_public=("/t*",),
    )
    async with aiohttp.ClientSession(server.url) as session:
        async with session.get("/te") as response:
            assert response.status == 404
            assert (await response.json())["detail"] == "nothing is mounted here"
        async with session.get("/tea") as response:
            assert response.status == 200


@pytest.mark.parametrize("pattern", ["", "shop orders", ".tea", "shop.", "a/b"])
def test_a_wrong_pattern_is_said(pattern):
    """It would hide nothing, unseen."""
    with pytest.raises(ValueError, match="hide has"):
        ShownOptions(hide=(pattern,))
    assert GatewayOptions(hide=("shop.*",)).hide == ("shop.*",)
