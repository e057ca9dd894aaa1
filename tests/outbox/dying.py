"""A process that is killed at the worst moments: ``dying.py MOMENT DATABASE BUS``."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

import kitmsg
import kitmsg.outbox.relay
from kitmsg import Event, outbox


class Placed(Event, subject="orders.placed.{order_id}"):
    order_id: str


def _die(*_: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


async def main(moment: str, database: str, bus: str) -> None:
    """Add ten events, and die before the commit, after it, or between publish and delete."""
    engine = create_async_engine(database)
    async with async_sessionmaker(engine)() as session:
        for number in range(10):
            await outbox.add(session, Placed(f"A{number}"))
        if moment == "before the commit":
            _die()
        await session.commit()
    if moment == "after the commit":
        _die()
    kitmsg.outbox.relay.delete_rows = _die  # type: ignore[attr-defined, assignment]
    async with kitmsg.connect(bus, makes_streams=True) as kit:
        await outbox.Relay(engine, kit.jetstream).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
