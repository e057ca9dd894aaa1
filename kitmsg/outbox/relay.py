"""The relay: publishes what was committed, in order, and deletes what its stream has.

A pass reads the oldest events and publishes them in waves: a wave has the next event of each
key, side by side, and the next wave begins when the stream has them.  So an event never
overtakes another of its key, whatever is sent again.  A relay that dies between publishing
and deleting leaves rows that are published again under the same message ids.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from typing import TYPE_CHECKING, Final

from kitmsg.errors import (
    DeadlineExceeded,
    Disconnected,
    FailedPrecondition,
    KitError,
    Unavailable,
)
from kitmsg.events.publish import PUBLISH_SECONDS, store
from kitmsg.outbox.held import MOST_HELD, Held
from kitmsg.outbox.rows import delete_rows, first_rows, forget_seen, waiting
from kitmsg.outbox.seat import open_seat
from kitmsg.outbox.signals import Signals

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from kitmsg.jetstream import JetStream
    from kitmsg.metrics.provider import Provider
    from kitmsg.outbox.rows import Row
    from kitmsg.outbox.seat import Seat

__all__ = ["Relay"]

_log = logging.getLogger("kitmsg.outbox")

_POLLS: Final = {"postgresql": 5.0, "sqlite": 0.2}
_CLEAN: Final = 60.0
_MEASURE: Final = 5.0
_BACKOFF: Final = 0.2
_LONGEST_BACKOFF: Final = 15.0
_WEEK: Final = 7 * 86_400.0


class Relay:
    """Publishes the events of one database; of several relays one works, the others stand by.

    Args:
        engine: Of the database; the relay holds one connection of its pool.
        jetstream: Where events are stored, such as ``kit.jetstream``.
        metrics: Counts; None for nobody.
        batch: Most events that are read at a time.
        poll: Seconds between looks at the table; by default 0.2 on SQLite, and 5 on
            PostgreSQL, where a commit wakes the relay.
        standby: Seconds between tries to take over.
        lease: Seconds without a sign of life after which others take over, on SQLite; on
            PostgreSQL they do when the connection ends.
        seen_for: Seconds that keys of `seen` are kept; longer than a stream keeps events.
    """

    # Invariants: rows are deleted only after the stream acknowledged them; nothing is
    # published before the seat was taken.

    def __init__(
        self,
        engine: AsyncEngine,
        jetstream: JetStream,
        *,
        metrics: Provider | None = None,
        batch: int = 500,
        poll: float | None = None,
        standby: float = 1.0,
        lease: float = 5.0,
        seen_for: float = _WEEK,
    ) -> None:
        self._engine = engine
        self._jetstream = jetstream
        self._signals = Signals(metrics)
        self._batch = batch
        self._poll = _POLLS.get(engine.dialect.name, 1.0) if poll is None else poll
        self._standby = standby
        self._lease = lease
        self._seen_for = seen_for
        self._held = Held()
        self._backoff = _BACKOFF
        self._clean_at = self._measure_at = 0.0

    async def run(self) -> None:
        """Relay until cancelled.

        A database or a bus that is away is tried again, with longer and longer waits.

        Raises:
            FailedPrecondition: The database cannot have a relay.
        """
        try:
            while True:
                try:
                    async with open_seat(self._engine, self._lease) as seat:
                        await self._work(seat)
                except FailedPrecondition:
                    raise
                except Exception as error:
                    task = asyncio.current_task()
                    if task is not None and task.cancelling():
                        # A driver made another error of it.
                        raise asyncio.CancelledError from error
                    self._signals.lost(error)
                await asyncio.sleep(self._backoff * random.uniform(0.5, 1.0))  # noqa: S311
                self._backoff = min(2 * self._backoff, _LONGEST_BACKOFF)
        finally:
            self._signals.ended()

    async def _work(self, seat: Seat) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            if not await seat.take():
                self._signals.stands_by()
                self._backoff = _BACKOFF
                await asyncio.sleep(self._standby)
                continue
            read = await self._pass(seat)
            self._signals.works()
            self._backoff = _BACKOFF
            await self._look_around(seat.connection, clock())
            if read < self._batch:
                await seat.wait(min(self._poll, self._held.next_at(clock())))

    async def _pass(self, seat: Seat) -> int:
        """Publish the oldest events; returns how many were read."""
        now = asyncio.get_running_loop().time()
        held = self._held.keys(now)
        if len(held) >= MOST_HELD:
            return 0
        rows = await first_rows(seat.connection, self._batch, held)
        stored: list[Row] = []
        try:
            await self._publish_waves(seat, rows, stored)
        except BaseException:
            with contextlib.suppress(Exception):  # published again, and known again
                await self._delete(seat.connection, stored)
            raise
        await self._delete(seat.connection, stored)
        return len(rows)

    async def _delete(self, connection: AsyncConnection, stored: list[Row]) -> None:
        """Delete what is stored, in one commit."""
        await delete_rows(connection, stored)
        self._signals.published(len(stored))

    async def _publish_waves(
        self, seat: Seat, rows: Sequence[Row], stored: list[Row]
    ) -> None:
        """Publish events; adds to `stored` those that are."""
        refused: set[str] = set()
        for wave in _waves(rows):
            if not await seat.take():
                return
            due = [row for row in wave if row.key not in refused]
            taken = await self._publish(due)
            for row in taken:
                self._held.stored(row)
            stored += taken
            refused.update({row.key for row in due} - {row.key for row in taken})

    async def _publish(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Publish events of as many keys; returns those that are stored.

        Raises:
            KitError: The store is away.
        """
        messages = [row.message for row in rows]
        try:
            await self._jetstream.publish_many(messages, timeout=PUBLISH_SECONDS)
        except KitError:  # one by one, to know which
            return [row for row in rows if await self._is_stored(row)]
        return rows

    async def _is_stored(self, row: Row) -> bool:
        """Publish one event; returns whether it is stored, or refused.

        Raises:
            KitError: The store is away.
        """
        try:
            await store(self._jetstream, row.message, PUBLISH_SECONDS)
        except (DeadlineExceeded, Disconnected, Unavailable):
            raise
        except KitError as error:
            self._held.refuse(row, error, asyncio.get_running_loop().time())
            self._signals.refused()
            return False
        return True

    async def _look_around(self, connection: AsyncConnection, now: float) -> None:
        """Measure and clean, from time to time."""
        if now >= self._measure_at:
            self._measure_at = now + _MEASURE
            self._signals.waiting(*await waiting(connection))
        if now >= self._clean_at:
            self._clean_at = now + _CLEAN
            await forget_seen(connection, self._seen_for)


def _waves(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Yield lists of rows of different keys, so that all of a key's are in order."""
    waves: list[list[Row]] = []
    place: dict[str, int] = {}
    for row in rows:
        at = place[row.key] = place.get(row.key, -1) + 1
        if at == len(waves):
            waves.append([])
        waves[at].append(row)
    yield from waves
