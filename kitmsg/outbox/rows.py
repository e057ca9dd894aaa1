"""Queries of the relay, on the one connection that it holds."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import delete, func, select

from kitmsg.jetstream import Outgoing
from kitmsg.outbox.tables import OUTBOX, SEEN

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["Row", "delete_rows", "first_rows", "forget_seen", "waiting"]

_decode_headers: Final = msgspec.json.Decoder(dict[str, str]).decode


class Row(msgspec.Struct, frozen=True):
    """An event that was committed.

    Attributes:
        sequence: The order of publishing.
        key: Events of one key are stored in order.
        message: As it is published, the row's id its message id.
    """

    sequence: int
    key: str
    message: Outgoing


async def first_rows(
    connection: AsyncConnection, count: int, held: Collection[str] = ()
) -> list[Row]:
    """Return up to `count` events, in order, but none of the keys in `held`."""
    query = select(OUTBOX).order_by(OUTBOX.c.sequence).limit(count)
    if held:
        query = query.where(OUTBOX.c.key.not_in(held))
    return [_row(found) for found in await connection.execute(query)]


def _row(found: Any) -> Row:
    message = Outgoing(
        found.subject,
        bytes(found.data),
        _decode_headers(found.headers),
        message_id=found.id,
    )
    return Row(found.sequence, found.key, message)


async def delete_rows(connection: AsyncConnection, rows: Sequence[Row]) -> None:
    """Delete events that their streams have."""
    sequences = [row.sequence for row in rows]
    if sequences:
        await connection.execute(delete(OUTBOX).where(OUTBOX.c.sequence.in_(sequences)))


async def waiting(connection: AsyncConnection) -> tuple[int, float]:
    """Return how many events wait, and since how many seconds the oldest does."""
    query = select(func.count(), func.min(OUTBOX.c.added_at)).select_from(OUTBOX)
    count, oldest = (await connection.execute(query)).one()
    return count, max(0.0, time.time() - oldest) if count else 0.0


async def forget_seen(connection: AsyncConnection, seconds: float) -> None:
    """Forget what was seen more than `seconds` ago."""
    since = time.time() - seconds
    await connection.execute(delete(SEEN).where(SEEN.c.seen_at < since))
