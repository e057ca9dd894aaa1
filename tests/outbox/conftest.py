"""Databases with the outbox's tables: SQLite, and PostgreSQL by both of its drivers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine

import kitmsg
from kitmsg import Kit, outbox
from kitmsg.bus.embedded import EmbeddedServer
from tests.postgres import empty_database, postgres  # noqa: F401

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncSession


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["sqlite", "asyncpg", "psycopg"])
def database(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def url(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database, with the outbox's tables in it."""
    if database == "sqlite":
        made = f"sqlite+aiosqlite:///{tmp_path}/app.db"
    else:
        made = await empty_database(request.getfixturevalue("postgres"), database)
    engine = create_async_engine(made)
    await outbox.make_tables(engine)
    await engine.dispose()
    return made


@pytest.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    made = create_async_engine(url)
    yield made
    await made.dispose()


@pytest.fixture
def sessions(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    return async_sessionmaker(engine)


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as server:
        yield server


@pytest.fixture
async def kit(server: EmbeddedServer) -> AsyncIterator[Kit]:
    async with kitmsg.connect(server.url, makes_streams=True) as made:
        yield made
