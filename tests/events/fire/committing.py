"""A publisher that commits and rolls back until it is killed: ``committing.py DATABASE BUS``.

A relay runs beside its transactions, so that it dies anywhere between one and the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

import kitmsg
from kitmsg import outbox
from tests.events.fire.ledger import EFFECTS, Happened


async def main(database: str, bus: str) -> None:
    """Go on for ever, and print a line after each commit."""
    engine = create_async_engine(database)
    async with kitmsg.connect(bus) as kit, asyncio.TaskGroup() as group:
        group.create_task(outbox.Relay(engine, kit.jetstream, batch=20).run())
        for _ in range(2):
            group.create_task(commit(engine))


async def commit(engine: AsyncEngine) -> None:
    """Note an effect and its event in one transaction, again and again; each third fails."""
    for turn in range(1_000_000):
        number = int.from_bytes(os.urandom(6), "big")
        with contextlib.suppress(ZeroDivisionError):
            async with AsyncSession(engine) as session, session.begin():
                await session.execute(insert(EFFECTS).values(number=number))
                await outbox.add(session, Happened(number))
                _ = 1 / (turn % 3)  # each third is rolled back
            print(number, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
