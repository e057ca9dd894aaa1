"""Inbox: makes the effect of a delivery happen once, in the transaction of the effect."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from kitmsg.context import current
from kitmsg.errors import FailedPrecondition
from kitmsg.jetstream import Position
from kitmsg.outbox.tables import SEEN, dialect_of, insert_into
from kitmsg.wire import CE_ID, CE_SOURCE, Js

if TYPE_CHECKING:
    from kitmsg.outbox.tables import Executes

__all__ = ["seen"]

_ACKS: Final = "$JS.ACK."


async def seen(session: Executes, key: str = "") -> bool:
    """Return whether `key` was seen before, and note in the transaction that it is now.

        async with sessions.begin() as session:
            if await outbox.seen(session):
                return
            ...  # the effect, in the same session

    It is noted if the transaction commits, so the effect and the note are there together or
    not at all.  A transaction that notes the same key at the same time waits for this one.
    The relay forgets keys after a week.

    Args:
        session: An `AsyncSession`, or an `AsyncConnection`, of PostgreSQL or SQLite.
        key: By default the current delivery: the subscription, and the event's source and
            id; of a tell or a tick its message id or its place in the stream.  Subscriptions
            in batches give the key of each event.

    Raises:
        FailedPrecondition: No delivery is handled here and no key is given; or the database
            is another.
    """
    insert = insert_into(SEEN, dialect_of(session))
    insert = insert.values(key=key or _of_delivery(), seen_at=time.time())
    insert = insert.on_conflict_do_nothing(index_elements=["key"])
    noted = await session.execute(insert.returning(SEEN.c.key))
    return noted.first() is None


def _of_delivery() -> str:
    ctx = current()
    reply = "" if ctx.message is None else ctx.message.reply
    headers = ctx.headers
    if not reply.startswith(_ACKS) and CE_ID not in headers:
        raise FailedPrecondition(
            "no delivery is handled here, so there is nothing that was seen; give key="
        )
    if CE_ID in headers:
        return f"{ctx.endpoint} {headers.get(CE_SOURCE, '')} {headers[CE_ID]}"
    if Js.MESSAGE_ID in headers:
        return f"{ctx.endpoint} {headers[Js.MESSAGE_ID]}"
    return f"{ctx.endpoint} {Position.read(reply).identity}"
