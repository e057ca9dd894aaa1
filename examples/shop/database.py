"""Tables of the shop, and sessions on them.

``SHOP_DATABASE`` is an URL of SQLAlchemy's: ``postgresql+asyncpg://app@db/shop``, or by
default a SQLite file in the current folder.  The services share one database here, so that
there is little to start; their tables have nothing to do with each other.

    python -m examples.shop.database

makes the tables, as a migration does elsewhere.
"""

import asyncio
import os
from contextlib import AbstractAsyncContextManager

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from kitmsg import outbox

URL = "sqlite+aiosqlite:///shop.db"


class Base(DeclarativeBase):
    """Tables of the shop."""


class OrderRow(Base):
    """An order; it is paid when payments say so."""

    __tablename__ = "orders"

    order_id: Mapped[str] = mapped_column(primary_key=True)
    cents: Mapped[int]
    is_paid: Mapped[bool] = mapped_column(default=False)


class ChargeRow(Base):
    """Money that was taken for an order."""

    __tablename__ = "charges"

    order_id: Mapped[str] = mapped_column(primary_key=True)
    cents: Mapped[int]


class LimitRow(Base):
    """The most that one order may cost, in cents; one row, or none for the default."""

    __tablename__ = "limits"

    number: Mapped[int] = mapped_column(primary_key=True)
    cents: Mapped[int]


class Database:
    """Sessions on one database, and its tables.

    Args:
        url: SQLAlchemy's; by default that of ``SHOP_DATABASE``.
    """

    def __init__(self, url: str = "") -> None:
        self.engine = create_async_engine(url or os.environ.get("SHOP_DATABASE", URL))
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)

    def begin(self) -> AbstractAsyncContextManager[AsyncSession]:
        """Return a transaction, for ``async with``: it commits where nothing is raised."""
        return self._sessions.begin()

    async def make_tables(self) -> None:
        """Make the tables that are missing."""
        async with self.engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        await outbox.make_tables(self.engine)

    async def close(self) -> None:
        """Close its connections."""
        await self.engine.dispose()


async def main() -> None:
    database = Database()
    await database.make_tables()
    await database.close()


if __name__ == "__main__":
    asyncio.run(main())
