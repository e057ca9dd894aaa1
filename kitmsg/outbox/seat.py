"""The seat of the relay that works: one, however many run.  And how that one is woken.

On PostgreSQL it is an advisory lock of the relay's connection, which ends with the
connection, and LISTEN wakes it.  On SQLite it is a row that says who works until when, and
the table is looked at again and again.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final, Protocol

from sqlalchemy import delete, func, or_, select, text
from sqlalchemy.pool import StaticPool

from kitmsg.errors import FailedPrecondition
from kitmsg.outbox.tables import CHANNEL, LEASE, insert_into

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

__all__ = ["Seat", "check_engine", "open_seat"]

_LOCK: Final = 0x6B69746F  # "kito", beside the hash of the schema
_NAME: Final = "relay"


class Seat(Protocol):
    """The right to publish, and the connection that it hangs on.

    Attributes:
        connection: Commits each statement by itself.
    """

    connection: AsyncConnection

    async def take(self) -> bool:
        """Take the seat, or keep it; returns whether it is ours."""
        ...

    async def wait(self, seconds: float) -> None:
        """Wait for events, `seconds` at most."""
        ...

    async def leave(self) -> None:
        """Give the seat to others."""
        ...


def check_engine(engine: AsyncEngine) -> None:
    """Check that a database can have a relay; connects to nothing.

    Raises:
        FailedPrecondition: The outbox does not know this database, or all use one
            connection to it.
    """
    insert_into(LEASE, engine.dialect)  # checks the dialect
    if isinstance(engine.pool, StaticPool):
        raise FailedPrecondition(
            "the relay needs a connection of its own; a SQLite database in memory has only"
            " one, so use a file"
        )


@contextlib.asynccontextmanager
async def open_seat(engine: AsyncEngine, lease: float) -> AsyncIterator[Seat]:
    """Open the connection of a seat; it is free again after the block.

    Args:
        engine: Of the database.
        lease: Seconds that a relay on SQLite holds the seat without a sign of life.

    Raises:
        FailedPrecondition: The outbox does not know this database, or all use one
            connection to it.
    """
    check_engine(engine)
    async with engine.connect() as made:
        connection = await made.execution_options(isolation_level="AUTOCOMMIT")
        seat: Seat
        if engine.dialect.name == "postgresql":
            seat = await _listening(connection)
        else:
            seat = _Leased(engine, connection, lease)
        try:
            yield seat
        finally:
            await _left(seat)


async def _left(seat: Seat) -> None:
    """Leave the seat; where that cannot be said, its connection is dropped, which says it.

    Raises nothing of the database: what ends the block, a cancellation too, is not replaced.
    """
    try:
        await asyncio.shield(seat.leave())
    except Exception:  # noqa: BLE001  drivers raise all kinds
        with contextlib.suppress(Exception):
            await seat.connection.invalidate()


class _Locked:
    """A seat by an advisory lock of PostgreSQL."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection
        self._is_ours = False

    async def take(self) -> bool:
        if not self._is_ours:
            schema = func.hashtext(func.coalesce(func.current_schema(), ""))
            query = select(func.pg_try_advisory_lock(_LOCK, schema))
            self._is_ours = bool(await self.connection.scalar(query))
        return self._is_ours

    async def wait(self, seconds: float) -> None:
        raise NotImplementedError

    async def leave(self) -> None:
        await self.connection.execute(text(f"UNLISTEN {CHANNEL}"))
        await self.connection.execute(select(func.pg_advisory_unlock_all()))


class _ByAsyncpg(_Locked):
    """Woken by a listener, which asyncpg calls."""

    def __init__(self, connection: AsyncConnection, driver: Any) -> None:
        super().__init__(connection)
        self._driver = driver
        self._woken = asyncio.Event()

    async def listen(self) -> None:
        await self._driver.add_listener(CHANNEL, self._wake)
        self._driver.add_termination_listener(self._wake)

    def _wake(self, *_: object) -> None:
        self._woken.set()

    async def wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        self._woken.clear()

    async def leave(self) -> None:
        self._driver.remove_termination_listener(self._wake)
        await self._driver.remove_listener(CHANNEL, self._wake)
        await super().leave()


class _ByPsycopg(_Locked):
    """Woken by the notifications that psycopg reads while nothing else runs."""

    def __init__(self, connection: AsyncConnection, driver: Any) -> None:
        super().__init__(connection)
        self._driver = driver

    async def wait(self, seconds: float) -> None:
        async for _ in self._driver.notifies(timeout=seconds, stop_after=1):
            pass


async def _listening(connection: AsyncConnection) -> Seat:
    raw = await connection.get_raw_connection()
    driver = raw.driver_connection
    if connection.dialect.driver == "asyncpg":
        seat = _ByAsyncpg(connection, driver)
        await seat.listen()
        return seat
    if hasattr(driver, "notifies"):
        await connection.execute(text(f"LISTEN {CHANNEL}"))
        return _ByPsycopg(connection, driver)
    raise FailedPrecondition(
        f"the relay needs asyncpg or psycopg, not {connection.dialect.driver}: write"
        " postgresql+asyncpg://..."
    )


class _Leased:
    """A seat by a row that has to be renewed."""

    # Invariant: before `_renew_at`, on the loop's clock, the row is certainly ours.

    def __init__(
        self, engine: AsyncEngine, connection: AsyncConnection, seconds: float
    ) -> None:
        self.connection = connection
        self._engine = engine
        self._seconds = seconds
        self._me = secrets.token_hex(8)
        self._renew_at = 0.0

    async def take(self) -> bool:
        now = time.monotonic()
        if now < self._renew_at:
            return True
        insert = insert_into(LEASE, self.connection.dialect).values(
            name=_NAME, owner=self._me, until=time.time() + self._seconds
        )
        insert = insert.on_conflict_do_update(
            index_elements=["name"],
            set_={"owner": insert.excluded.owner, "until": insert.excluded.until},
            where=or_(LEASE.c.owner == self._me, LEASE.c.until < time.time()),
        )
        taken = await self.connection.execute(insert.returning(LEASE.c.owner))
        is_ours = taken.first() is not None
        self._renew_at = now + self._seconds / 2 if is_ours else 0.0
        return is_ours

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def leave(self) -> None:
        # By a connection of its own: a cancellation may have broken the other.
        async with self._engine.begin() as connection:
            await connection.execute(delete(LEASE).where(LEASE.c.owner == self._me))
