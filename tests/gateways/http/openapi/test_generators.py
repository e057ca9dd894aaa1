"""What generators and linters that others wrote make of the document."""

from __future__ import annotations

import asyncio
import datetime as dt  # noqa: TC003  a service's hint
import enum
import json
from collections.abc import AsyncIterator  # noqa: TC003
from decimal import Decimal  # noqa: TC003
from typing import Any, Generic, TypeVar

import msgspec
import pytest

from kitmsg import BusinessError, Service, endpoint
from tests.require import need

T = TypeVar("T")


class Cat(msgspec.Struct, tag="cat"):
    name: str


class Dog(msgspec.Struct, tag="dog"):
    name: str
    age: int


class Page(msgspec.Struct, Generic[T]):
    items: list[T]
    next: str | None = None


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Gone(BusinessError):
    """Away."""

    name: str


class Zoo(Service):
    """Has unions, generics, streams, files and errors."""

    @endpoint(http="PUT /pets/{id}", raises=[Gone])
    async def put(
        self,
        id: int,  # noqa: A002
        pet: Cat | Dog,
        colour: Colour | None = None,
    ) -> Cat | Dog:
        raise NotImplementedError

    @endpoint(http="GET /pets")
    async def every(
        self, at: dt.datetime | None = None, price: Decimal | None = None
    ) -> Page[Cat]:
        raise NotImplementedError

    @endpoint(http="PUT /photos/{name}")
    async def photo(self, name: str, data: bytes) -> None:
        raise NotImplementedError

    @endpoint(http="GET /photos/{name}")
    async def look(self, name: str) -> bytes:
        raise NotImplementedError

    @endpoint
    async def watch(self, name: str) -> AsyncIterator[Cat | Dog]:
        yield Cat(name)

    @endpoint
    async def bring(self, items: AsyncIterator[Dog]) -> int:
        raise NotImplementedError

    @endpoint(wire="gokit")
    async def sum(self, a: int, b: int) -> int:
        raise NotImplementedError


@pytest.fixture
async def path(hub, start, tmp_path):
    """The document in a file."""
    await hub.serve(Zoo())
    call = await start(hub)
    _, document = await call("GET", "/openapi.json")
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(document))
    return path


async def run(*command: Any) -> str:
    """Run a command and return what it prints; it must end well."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = (await process.communicate())[0].decode()
    assert process.returncode == 0, said
    return said


async def test_typescript_takes_it(path):
    """openapi-typescript makes types of it that the strict compiler takes."""
    generator, compiler = need("openapi-typescript"), need("tsc")
    types = path.with_suffix(".ts")
    await run(generator, path, "-o", types)
    await run(compiler, "--strict", "--noEmit", types)
    text = types.read_text()
    assert 'pet: components["schemas"]["Cat"] | components["schemas"]["Dog"]' in text


async def test_a_linter_finds_no_error(path):
    """Redocly's recommended rules: every reference leads somewhere."""
    said = await run(need("redocly"), "lint", path, "--format=stylish")
    assert "no-unresolved-refs" not in said
