"""Databases of the ledger: SQLite, and a PostgreSQL of this session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from tests.events.fire.ledger import make_tables
from tests.postgres import empty_database, postgres  # noqa: F401

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path}/effects.db"


@pytest.fixture
async def postgres_url(postgres: str) -> str:  # noqa: F811
    return await empty_database(postgres)


@pytest.fixture
async def databases(
    sqlite_url: str, postgres_url: str
) -> AsyncIterator[dict[str, AsyncEngine]]:
    """Both, with their tables, by the subscription that has its effects there."""
    engines = {
        "in_sqlite": create_async_engine(sqlite_url),
        "in_postgres": create_async_engine(postgres_url),
    }
    await make_tables(*engines.values())
    yield engines
    for engine in engines.values():
        await engine.dispose()


@pytest.fixture
def environ(
    databases: dict[str, AsyncEngine], sqlite_url: str, postgres_url: str
) -> dict[str, str]:
    """Where workers find the databases."""
    return {"FIRE_SQLITE": sqlite_url, "FIRE_POSTGRES": postgres_url}
