"""A hostile service on the bus: the gateway keeps answering, and everybody keeps his own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from kitmsg import Kit, Service, endpoint
from kitmsg.bus.nats import NatsBus
from kitmsg.cli.samples import make_sample
from kitmsg.message import encode_headers
from kitmsg.schema.live import document_hash, why_unread
from tests.flood import flood

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.bus.embedded import EmbeddedServer
    from kitmsg.bus.memory import MemoryBus

ANY_OF: dict[str, Any] = {
    "$ref": "#/$defs/A",
    "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}] * 12}},
}
NESTED: dict[str, Any] = {"type": "integer"}
for _ in range(6):
    NESTED = {"type": "array", "minItems": 16, "items": NESTED}
MANY: dict[str, Any] = {
    "$ref": "#/$defs/A",
    "$defs": {
        "A": {
            "type": "object",
            "required": [f"f{n}" for n in range(60)],
            "properties": {f"f{n}": {"$ref": "#/$defs/A"} for n in range(60)},
        }
    },
}
LONG: dict[str, Any] = {
    "type": "object",
    "required": ["a"],
    "properties": {"a": {"type": "string", "minLength": 10**9}},
}
ODD: dict[str, Any] = {"type": ["x", 5], "properties": 5, "required": {"a": 1}}
BOMBS = {"any_of": ANY_OF, "nested": NESTED, "many": MANY, "long": LONG, "odd": ODD}


class Greeter(Service):
    """Says hello."""

    @endpoint(http="GET /hello/{name}")
    async def hello(self, name: str) -> str:
        """Return it."""
        return name


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
async def test_a_schema_that_explodes_stops_nobody(
    memory_bus: MemoryBus, hub: Kit, start: Any, foreign: Any, bomb: dict[str, Any]
) -> None:
    """As request, response, item and error; the document stays small, all is answered."""
    parts = {"request": bomb, "response": bomb, "items": bomb, "errors": {"E": bomb}}
    hash_ = document_hash(parts)
    assert why_unread(parts, hash_) == ""  # it is small
    metadata = {"kit.schema": hash_, "kit.http": "GET /far/{n}"}
    foreign("far", "far.do", metadata=metadata)
    body = msgspec.json.encode({"do": {**parts, "hash": hash_}})
    memory_bus.subscribe("far._schema", lambda m: memory_bus.respond(m, body))
    await hub.serve(Greeter())
    async with asyncio.timeout(10):
        call = await start(memory_bus)
        assert (await call("GET", "/hello/Ann"))[1] == "Ann"
        response, document = await call("GET", "/openapi.json")
    assert response.status == 200
    assert len(msgspec.json.encode(document)) < 200_000


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_samples_of_such_a_schema_are_short(bomb: dict[str, Any]) -> None:
    """The lines to try that the command line shows."""
    sample = make_sample("far.do", {"request": bomb, "items": bomb}, "", "http://x")
    assert len(sample.call) < 20_000
    assert len(sample.curl) < 20_000


@pytest.mark.parametrize(
    "route",
    ["GET /hello/{other}", "GET /hello/Ann", "GET /{a}/Ann", "POST /greeter/hello"],
)
async def test_whoever_was_there_keeps_his_routes(
    memory_bus: MemoryBus, hub: Kit, start: Any, until: Any, foreign: Any, route: str
) -> None:
    """A newcomer gets neither the route nor a part of its requests; both are named."""
    await hub.serve(Greeter())
    call = await start(memory_bus, discovery_interval=0.05)
    assert (await call("GET", "/hello/Ann"))[1] == "Ann"
    memory_bus.subscribe("aaa.x", lambda m: memory_bus.respond(m, b'"stolen"'))
    foreign("aaa", "aaa.x", metadata={"kit.http": route})
    await until(lambda: "aaa" in call.server.table.services)
    assert (await call("GET", "/hello/Ann"))[1] == "Ann"
    assert (await call("POST", "/greeter/hello", json={"name": "Ann"}))[1] == "Ann"
    if route != "GET /{a}/Ann":
        (sentence,) = call.server.table.conflicts
        assert "aaa.x is not mounted" in sentence
        assert "greeter" in sentence


async def test_a_public_path_is_meant_for_one_service(
    memory_bus: MemoryBus, hub: Kit, start: Any, foreign: Any, tmp_path: Any
) -> None:
    """Whatever else is mounted below it would answer strangers."""
    key = tmp_path / "key"
    key.write_text("0123456789" * 5)
    auth = {"jwt_key": str(key), "jwt_algorithms": ("HS256",)}
    await hub.serve(Greeter())
    foreign("far", "far.x", metadata={"kit.http": "GET /hello/there/{n}"})
    foreign("top", "top.x", metadata={"kit.http": "GET /{any}/{n}"})
    call = await start(memory_bus, auth_public=("greeter=/hello/*",), **auth)
    assert (await call("GET", "/hello/Ann"))[1] == "Ann"
    response, _ = await call("POST", "/greeter/hello", json={"name": "Ann"})
    assert response.status == 401
    sentences = "\n".join(call.server.table.conflicts)
    assert "far.x is not mounted at 'GET /hello/there/{n}'" in sentences
    assert "top.x is not mounted at 'GET /{any}/{n}'" in sentences
    assert sentences.count("is public for 'greeter'") == 2


async def test_with_authentication_a_service_is_called_below_its_name(
    memory_bus: MemoryBus, start: Any, foreign: Any, tmp_path: Any
) -> None:
    """Unless the operator says where else."""
    key = tmp_path / "key"
    key.write_text("0123456789" * 5)
    auth = {"jwt_key": str(key), "jwt_algorithms": ("HS256",)}
    foreign("calc", "plus", "legacy.minus")
    call = await start(memory_bus, allow_subject=("calc=legacy.>",), **auth)
    assert [each.subject for each in call.server.table.endpoints] == ["legacy.minus"]
    assert "--allow-subject 'calc=plus'" in "\n".join(call.server.table.conflicts)


async def test_ten_thousand_services_that_are_not_there(
    nats_server: EmbeddedServer, start: Any, until: Callable[..., Any]
) -> None:
    """No caller sees an error, and the probe is answered all the time."""
    worst = {"/healthz": 0.0, "/hello/Ann": 0.0}
    seen = dict.fromkeys(worst, 0)
    kit = Kit(await NatsBus.connect(nats_server.url))
    await kit.serve(Greeter())
    bus = await NatsBus.connect(nats_server.url)
    call = await start(bus, discovery_interval=0.5)
    loop = asyncio.get_running_loop()

    async def probe(path: str) -> None:
        while True:
            began = loop.time()
            response, _ = await call("GET", path)
            assert response.status == 200
            worst[path] = max(worst[path], loop.time() - began)
            seen[path] += 1
            await asyncio.sleep(0.01)

    probes = [asyncio.create_task(probe(path)) for path in worst]
    async with flood(nats_server.url, 10_000):
        await until(lambda: len(call.server.table.services) > 100)
        await asyncio.sleep(1)
    for task in probes:
        assert not task.done(), task.result()
        task.cancel()
    # 0.2 s on a machine of its own; a tenth of that is usual.
    assert max(worst.values()) < 2.0
    assert min(seen.values()) > 50
    await bus.close()
    await kit.close()


@pytest.mark.parametrize(
    ("media_type", "is_active"),
    [
        ("text/html", True),
        ("TEXT/HTML; charset=utf-8", True),
        ("image/svg+xml", True),
        ("application/xhtml+xml", True),
        ("application/json", False),
        ("text/plain", False),
    ],
)
async def test_a_page_of_a_service_runs_nothing(
    memory_bus: MemoryBus, start: Any, foreign: Any, media_type: str, is_active: bool
) -> None:
    """It shares its origin with the docs page and every other service."""
    foreign("far", "far.x", metadata={"kit.http": "GET /page"})
    block = encode_headers({"Content-Type": media_type})
    body = b"1"
    memory_bus.subscribe("far.x", lambda m: memory_bus.respond(m, body, block))
    call = await start(memory_bus)
    response, _ = await call("GET", "/page", headers={"Accept": "*/*"})
    policy = response.headers.get("Content-Security-Policy", "")
    assert policy.startswith("sandbox; default-src 'none'") is is_active
    assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_no_service_takes_the_place_of_the_docs_page(
    memory_bus: MemoryBus, start: Any, foreign: Any
) -> None:
    """Not with a slash behind it either."""
    foreign("far", "far.x", metadata={"kit.http": "GET /docs/"})
    foreign("further", "further.x", metadata={"kit.http": "GET /{page}"})
    call = await start(memory_bus)
    sentences = "\n".join(call.server.table.conflicts)
    assert "far.x is not mounted at 'GET /docs/'" in sentences
    response, body = await call("GET", "/docs")
    assert b"<title>" in body
    assert "sandbox" not in response.headers["Content-Security-Policy"]
