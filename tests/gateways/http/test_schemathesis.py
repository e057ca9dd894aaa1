"""Schemathesis tries all that the examples' OpenAPI document promises, and what it forbids."""

from __future__ import annotations

import asyncio
import enum
import importlib.util
import os
import re
import sys
import uuid  # noqa: TC003  endpoints' annotations are read
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from openapi_spec_validator import validate

from examples.addsvc.service import AddService
from examples.greeter import Greeter
from examples.orders import Inventory, Orders
from examples.ticker import Ticker
from kitmsg import Service, endpoint
from kitmsg.errors import NotFound
from kitmsg.schema import header
from tests.require import miss

CONFIG = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = 200 if os.environ.get("KITMSG_LONG") else 5


class Full(dict[str, int]):
    """A stock that has everything, so that nobody looks for it in the cellar."""

    def __contains__(self, sku: object) -> bool:
        return True

    def __missing__(self, sku: str) -> int:
        return 5


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Item(msgspec.Struct):
    """A thing."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=20)]
    count: Annotated[int, msgspec.Meta(ge=0, le=100)] = 1
    tags: list[str] = []
    colour: Colour | None = None
    parts: list[Item] = []


class Rest(Service):
    """What the examples have no need of: every kind of parameter, every method."""

    @endpoint(http="GET /items/{id}", cache=60)
    async def get(
        self,
        id: int,  # noqa: A002
        tenant: Annotated[str, header("X-Tenant")],
        colour: Colour = Colour.RED,
        tags: list[str] = [],  # noqa: B006
        limit: Annotated[int, msgspec.Meta(ge=1)] | None = None,
        ratio: float = 1.0,
        is_full: bool = False,
    ) -> Item:
        """Return a thing."""
        if not 0 <= id < 1000:
            raise NotFound("there is no such thing")
        return Item(name=tenant[:20] or "x", tags=tags, colour=colour)

    @endpoint(http="PUT /items/{id}")
    async def put(
        self,
        id: uuid.UUID,  # noqa: A002
        item: Item,
        limits: Annotated[list[int], header("X-Limits")] = [],  # noqa: B006
    ) -> Item:
        """Store a thing."""
        return item

    @endpoint(http="PATCH /items/{id}/count")
    async def count(self, id: str, count: int | None) -> dict[str, int | None]:  # noqa: A002
        """Change a number."""
        return {id: count}

    @endpoint(http="DELETE /items/{id}")
    async def drop(self, id: str) -> None:  # noqa: A002
        """Forget a thing."""

    @endpoint
    async def anything(self, value: Any) -> Any:
        """Return what is given."""
        return value


@pytest.fixture
async def gateway(hub: Any, start: Any) -> Any:
    """A gateway in front of every example, and of one service with all the rest."""
    inventory = Inventory()
    inventory.stock = Full()
    for service in (Greeter(), AddService(), inventory, Orders, Ticker(), Rest()):
        await hub.serve(service)
    return await start(hub, max_timeout=2.0)


async def test_the_document_of_the_examples_is_valid(gateway):
    """By the specification's own schema."""
    _, document = await gateway("GET", "/openapi.json")
    validate(document)
    assert len(document["paths"]) > 15


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_the_examples_keep_what_their_document_promises(gateway, tmp_path):
    """All checks, on every operation but streams without end; the same run each time."""
    if importlib.util.find_spec("schemathesis") is None:
        miss("schemathesis is not installed; pip install schemathesis to run this test")
    run = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli"),
        *("--config-file", str(CONFIG)),
        *("run", f"{gateway.server.url}/openapi.json"),
        *("--seed", "1", "--max-examples", str(EXAMPLES)),
        *("--exclude-path-regex", "watch|average|convert", "--no-color"),
        *("--generation-database", "none", "--request-timeout", "10"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await run.communicate()
    text = said.decode()
    print(text[-3000:])
    assert run.returncode == 0, text[-6000:]
    generated = re.search(r"(\d+) generated", text)
    assert generated is not None
    assert int(generated[1]) > 300
