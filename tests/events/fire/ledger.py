"""The service of these tests, and its journal: a line for each attempt and for its end.

Its workers read from the environment what the test wants of them:

    FIRE_JOURNAL    file of the journal
    FIRE_SQLITE     address of a database for `in_sqlite`, which else does nothing
    FIRE_POSTGRES   of another one for `in_postgres`
    FIRE_ACK_WAIT   seconds for which the store waits for a word, rather than 30
    FIRE_REPLICAS   servers that keep the streams
    FIRE_FAULT      a fault in kitmsg to switch on; see `seeded`
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING, Final

from sqlalchemy import BigInteger, Column, MetaData, Table, insert
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from kitmsg import Event, Kit, Service, Stream, current, endpoint, outbox, subscribe
from kitmsg.jetstream import Position
from kitmsg.service import employed, stored
from tests.events.fire import seeded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["EFFECTS", "TABLES", "Happened", "Ledger", "Noted", "Poisoned"]

RETRIES: Final = (0.2,) * 20  # more than one event is killed in a test
KEPT: Final = Stream(name="fire", replicas=int(os.environ.get("FIRE_REPLICAS", "1")))

TABLES: Final = MetaData()
EFFECTS: Final = Table("effects", TABLES, Column("number", BigInteger))
"""A row for each effect: no key that would keep a second one out."""

if "FIRE_ACK_WAIT" in os.environ:
    for module in (stored, employed):
        vars(module)["ACK_WAIT"] = float(os.environ["FIRE_ACK_WAIT"])
seeded.switch_on(os.environ.get("FIRE_FAULT", ""))


class Happened(Event, subject="fire.happened.{number}", stream=KEPT):
    number: int
    seconds: float = 0.0


class Noted(Event, subject="fire.noted.{number}", stream=KEPT):
    number: int


class Poisoned(Event, subject="fire.poisoned.{number}", stream=KEPT):
    number: int


class Ledger(Service):
    """Notes that it begins, works for as long as an event says, and notes that it ends."""

    name = "ledger"
    publishes = (Noted,)
    drain_timeout = 10.0

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self.journal = os.open(os.environ["FIRE_JOURNAL"], flags)
        self.sqlite = engine_at("FIRE_SQLITE", timeout=60.0)
        self.postgres = engine_at("FIRE_POSTGRES")

    async def stop(self) -> None:
        for engine in (self.sqlite, self.postgres):
            if engine is not None:
                await engine.dispose()

    @subscribe(Happened, since="first", retries=RETRIES)
    async def plain(self, event: Happened) -> None:
        with self.noted("plain", event.number):
            await asyncio.sleep(event.seconds)

    @subscribe(Happened, since="first", retries=RETRIES, once=True)
    async def on_stream(self, event: Happened) -> None:
        with self.noted("on_stream", event.number):
            await self.kit.publish(Noted(event.number))
            await asyncio.sleep(event.seconds)

    @subscribe(Happened, since="first", retries=RETRIES)
    async def in_sqlite(self, event: Happened) -> None:
        with self.noted("in_sqlite", event.number):
            await self.effect(self.sqlite, event)

    @subscribe(Happened, since="first", retries=RETRIES)
    async def in_postgres(self, event: Happened) -> None:
        with self.noted("in_postgres", event.number):
            await self.effect(self.postgres, event)

    @subscribe(Poisoned, since="first", retries=(0.1,))
    async def poisoned(self, event: Poisoned) -> None:
        with self.noted("poisoned", event.number):
            raise RuntimeError(f"{event.number} fails")

    @endpoint(durable=True)
    async def told(self, number: int, seconds: float) -> None:
        with self.noted("told", number):
            await asyncio.sleep(seconds)

    @staticmethod
    async def effect(engine: AsyncEngine | None, event: Happened) -> None:
        if engine is None:
            return
        async with AsyncSession(engine) as session, session.begin():
            if not await outbox.seen(session):
                await session.execute(insert(EFFECTS).values(number=event.number))
                await asyncio.sleep(0)
        await asyncio.sleep(event.seconds)

    @contextlib.contextmanager
    def noted(self, what: str, number: int) -> Iterator[None]:
        message = current().message
        assert message is not None
        deliveries = Position.read(message.reply).deliveries
        words = f"{what} {number} {deliveries} {os.getpid()}"
        self.write(f"{words} begins")
        yield
        self.write(f"{words} ends")

    def write(self, line: str) -> None:
        os.write(self.journal, f"{line} {time.monotonic():.4f}\n".encode())


def engine_at(name: str, **arguments: float) -> AsyncEngine | None:
    """Return the engine of the database at the address in a variable, if it is set."""
    url = os.environ.get(name)
    return create_async_engine(url, connect_args=arguments) if url else None


async def make_tables(*engines: AsyncEngine) -> None:
    """Make the tables of the outbox and of the effects."""
    for engine in engines:
        await outbox.make_tables(engine)
        async with engine.begin() as connection:
            await connection.run_sync(TABLES.create_all)
