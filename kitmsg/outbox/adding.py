"""Adds events to a transaction: encoded and checked there, published after its commit."""

from __future__ import annotations

import functools
import re
import time
from typing import TYPE_CHECKING, Final

import msgspec
from sqlalchemy import func

from kitmsg.codec import JSON
from kitmsg.context import current
from kitmsg.errors import InvalidArgument
from kitmsg.events.attempts import once_ids
from kitmsg.events.envelope import Writer, new_event_id
from kitmsg.events.publish import carried
from kitmsg.outbox.tables import CHANNEL, OUTBOX, dialect_of, insert_into

if TYPE_CHECKING:
    from kitmsg.events.event import Event
    from kitmsg.outbox.tables import Executes

__all__ = ["add"]

_ID: Final = re.compile(r"[!-~]{1,256}")

_writer: Final = functools.cache(lambda cls: Writer(cls, JSON))


async def add(
    session: Executes,
    event: Event,
    *,
    id: str = "",  # noqa: A002
    key: str = "",
) -> str:
    """Have an event published if and when the transaction of `session` commits.

    Args:
        session: An `AsyncSession`, or an `AsyncConnection`, of PostgreSQL or SQLite.
        event: The event.
        id: Its id, by which the stream knows it again; made up by default.  One that waits
            under the same id already stays as it is, and this one is not added.
        key: Events of one key are stored in order; by default their subject.

    Returns:
        The id.

    Raises:
        TypeError: It is no event.
        InvalidArgument: A field does not fit its class; nothing is added.
        FailedPrecondition: The database is another.
    """
    writer: Writer = _writer(type(event))
    if id and not _ID.fullmatch(id):
        raise InvalidArgument(
            f"id={id[:40]!r}: up to 256 printable ASCII characters without spaces",
            field="id",
        )
    ctx, own = current(), once_ids.get()
    made = id or (new_event_id() if own is None else own.next())
    source = ctx.endpoint.partition(".")[0]
    subject = writer.subject(event)
    row = {
        "id": made,
        "key": key or subject,
        "subject": subject,
        "headers": msgspec.json.encode(
            writer.headers(made, source, carried(ctx))
        ).decode(),
        "data": writer.payload(event),
        "added_at": time.time(),
    }
    dialect = dialect_of(session)
    insert = insert_into(OUTBOX, dialect).values(row)
    insert = insert.on_conflict_do_nothing(index_elements=["id"])
    if dialect.name == "postgresql":
        # In the same round trip; PostgreSQL tells it when the transaction commits.
        insert = insert.returning(func.pg_notify(CHANNEL, ""))
    await session.execute(insert)
    return made
