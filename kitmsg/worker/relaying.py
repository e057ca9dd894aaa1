"""``--outbox URL``: relays a database's outbox for as long as a worker serves.

Each worker has a relay; of all that there are, of workers and of `kitmsg outbox relay`, one
works and the others stand by.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from kitmsg.errors import KitError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from kitmsg.outbox import Relay
    from kitmsg.service import Kit
    from kitmsg.worker.settings import Settings

__all__ = ["WorkerRelay", "check_outbox"]

_log = logging.getLogger("kitmsg.outbox")


def check_outbox(settings: Settings) -> None:
    """Check that the database of the outbox can be used; connects to nothing.

    Raises:
        InvalidArgument: The URL is none of a driver that is installed.
        FailedPrecondition: A package is missing, or the database cannot have a relay.
    """
    if settings.outbox:
        _engine(settings.outbox)


class WorkerRelay:
    """The relay of one worker, from the time that it serves until it has drained.

    Args:
        settings: With the URL.
        kit: Where events are published, and counts kept.

    Raises:
        KitError: As `check_outbox`.
    """

    def __init__(self, settings: Settings, kit: Kit) -> None:
        from kitmsg.outbox import Relay

        self._engine = _engine(settings.outbox)
        relay = Relay(self._engine, kit.jetstream, metrics=kit.metrics)
        self._task = asyncio.create_task(self._run(relay))

    async def close(self) -> None:
        """End the relay, and give its place to another."""
        self._task.cancel()
        await asyncio.wait((self._task,))
        await self._engine.dispose()

    @staticmethod
    async def _run(relay: Relay) -> None:
        try:
            await relay.run()
        except KitError as error:
            _log.error("nothing of the outbox is published by this worker: %s", error)


def _engine(url: str) -> AsyncEngine:
    from kitmsg.outbox.seat import check_engine
    from kitmsg.outbox.tables import engine_of

    engine = engine_of(url)
    check_engine(engine)
    return engine
