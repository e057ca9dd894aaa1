"""Tables of the outbox; `metadata` is for Alembic's ``target_metadata``, beside your own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from kitmsg.errors import FailedPrecondition, InvalidArgument

try:
    from sqlalchemy import (
        BigInteger,
        Column,
        Double,
        Index,
        Integer,
        LargeBinary,
        MetaData,
        String,
        Table,
        Text,
    )
    from sqlalchemy.dialects import postgresql, sqlite
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.ext.asyncio import create_async_engine
except ImportError as error:
    raise FailedPrecondition(
        "the outbox needs SQLAlchemy and a driver: pip install 'kitmsg[outbox]'"
    ) from error

if TYPE_CHECKING:
    from sqlalchemy import Dialect
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = [
    "CHANNEL",
    "LEASE",
    "OUTBOX",
    "SEEN",
    "Executes",
    "dialect_of",
    "engine_of",
    "insert_into",
    "make_tables",
    "metadata",
]

CHANNEL: Final = "kit_outbox"
"""Channel of PostgreSQL's NOTIFY that wakes the relay."""

metadata: Final = MetaData()
"""The outbox's tables."""

OUTBOX: Final = Table(
    "kit_outbox",
    metadata,
    # The order of publishing; never given twice, so that no order is turned around.
    Column(
        "sequence",
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    Column("id", String(256), nullable=False, unique=True),
    Column("key", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("headers", Text, nullable=False),  # JSON
    Column("data", LargeBinary, nullable=False),
    Column("added_at", Double, nullable=False),  # unix seconds
    sqlite_autoincrement=True,
)

SEEN: Final = Table(
    "kit_seen",
    metadata,
    Column("key", String(1024), primary_key=True),
    Column("seen_at", Double, nullable=False),  # unix seconds
    Index("kit_seen_at", "seen_at"),
)

LEASE: Final = Table(
    "kit_outbox_lease",  # used on SQLite; PostgreSQL has advisory locks
    metadata,
    Column("name", String(64), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("until", Double, nullable=False),  # unix seconds
)


class Executes(Protocol):
    """A session or a connection of SQLAlchemy's asyncio."""

    async def execute(self, statement: Any, /) -> Any:
        """Carry out a statement, in the transaction that runs."""
        ...


def dialect_of(session: Executes) -> Dialect:
    """Return the dialect of an `AsyncSession` or an `AsyncConnection`."""
    given = cast("Any", session)
    bind = given.get_bind() if hasattr(given, "get_bind") else given
    return cast("Dialect", bind.dialect)


def insert_into(table: Table, dialect: Dialect) -> Any:
    """Return an insert that can say what is done on a conflict.

    Raises:
        FailedPrecondition: The outbox does not know this database.
    """
    if dialect.name == "postgresql":
        return postgresql.insert(table)
    if dialect.name == "sqlite":
        return sqlite.insert(table)
    raise FailedPrecondition(
        f"the outbox is for PostgreSQL and SQLite, not for {dialect.name}"
    )


def engine_of(url: str) -> AsyncEngine:
    """Return an engine of the database at one of SQLAlchemy's URLs.

    Raises:
        InvalidArgument: It is none of an asyncio driver that is installed.
    """
    try:
        return create_async_engine(url)
    except (SQLAlchemyError, ImportError) as error:
        raise InvalidArgument(
            f"the database's URL cannot be used: {error}; write postgresql+asyncpg://... or"
            " sqlite+aiosqlite:///FILE"
        ) from error


async def make_tables(engine: AsyncEngine) -> None:
    """Make the tables that are missing."""
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
