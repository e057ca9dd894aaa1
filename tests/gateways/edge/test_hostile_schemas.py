"""Schemas that explode stop no gateway: each reads them within a budget."""

from __future__ import annotations

import asyncio
import importlib
from time import process_time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from kitmsg import Kit, Service, endpoint
from kitmsg.cli.output import UsageError
from kitmsg.cli.remote import fetch_schemas, find_endpoint
from kitmsg.discovery.subject import EndpointInfo, ServiceInfo
from kitmsg.schema.live import document_hash
from tests.gateways.http.test_hostile_bus import BOMBS

if TYPE_CHECKING:
    from kitmsg.bus.memory import MemoryBus


class Greeter(Service):
    """Says hello."""

    @endpoint
    async def hello(self, name: str) -> str:
        """Return it."""
        return name


def tell(bus: MemoryBus, name: str, subject: str, bomb: dict[str, Any]) -> None:
    """Answer for a service that tells a schema."""
    parts = {"request": bomb, "response": bomb, "items": bomb, "errors": {"E": bomb}}
    hash_ = document_hash(parts)
    served = EndpointInfo(name="do", subject=subject, metadata={"kit.schema": hash_})
    info = ServiceInfo(name=name, id=f"{name}-1", version="1.0.0", endpoints=[served])
    told = msgspec.json.encode({"do": {**parts, "hash": hash_}})
    said = msgspec.json.encode(info)
    for verb in ("$SRV.INFO", f"$SRV.INFO.{name}"):
        bus.subscribe(verb, lambda m: bus.respond(m, said))
    bus.subscribe(f"{name}._schema", lambda m: bus.respond(m, told))


@pytest.mark.parametrize("kind", ["http", "grpc", "thrift", "mcp"])
async def test_every_gateway_starts_and_lists_the_others(
    memory_bus: MemoryBus, kind: str
) -> None:
    """Next to services whose schemas have each kind of explosion."""
    for name, bomb in BOMBS.items():
        tell(memory_bus, name, f"{name}.do", bomb)
    await Kit(memory_bus).serve(Greeter())
    package = importlib.import_module(f"kitmsg_gateways.{kind}")
    began = process_time()
    async with asyncio.timeout(20):
        server = await package.serve(memory_bus, package.GatewayOptions(port=0))
    assert "greeter" in server.catalogue.found.services
    assert set(BOMBS) <= set(server.catalogue.found.services)
    assert process_time() - began < 10
    await server.stop()


async def test_the_command_line_reads_them_too(memory_bus: MemoryBus) -> None:
    """And calls nobody on a subject that no service can have."""
    tell(memory_bus, "far", "far.do", BOMBS["any_of"])
    tell(memory_bus, "evil", "$JS.API.STREAM.DELETE.LEDGER", BOMBS["many"])
    assert set(await fetch_schemas(memory_bus, "far")) == {"do"}
    assert await find_endpoint(memory_bus, "far.do")
    with pytest.raises(UsageError, match=r"evil.do cannot be called: its subject"):
        await find_endpoint(memory_bus, "evil.do")


async def test_the_command_line_believes_hashes_only(memory_bus: MemoryBus) -> None:
    """A schema under another's hash is left out."""
    lie = msgspec.json.encode({"do": {"request": {}, "hash": "0123456789abcdef"}})
    memory_bus.subscribe("far._schema", lambda m: memory_bus.respond(m, lie))
    assert await fetch_schemas(memory_bus, "far") == {}
