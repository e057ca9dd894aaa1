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
from kitmsg.events.publish import carried, template_of
from kitmsg.events.spans import sending
from kitmsg.jetstream import Outgoing
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
    cls = type(event)
    with sending(cls.__name__, template=template_of(cls), operation="create") as show:
        message = _message(writer, event, id)
        show(message)
        await _insert(session, message, key or message.subject)
    return message.message_id


def _message(writer: Writer, event: Event, id_: str) -> Outgoing:
    """Return the message of an event, with the headers of the running turn and span."""
    ctx, own = current(), once_ids.get()
    made = id_ or (new_event_id() if own is None else own.next())
    source = ctx.endpoint.partition(".")[0]
    headers = writer.headers(made, source, carried(ctx))
    return Outgoing(writer.subject(event), writer.payload(event), headers, made)


async def _insert(session: Executes, message: Outgoing, key: str) -> None:
    row = {
        "id": message.message_id,
        "key": key,
        "subject": message.subject,
        "headers": msgspec.json.encode(message.headers).decode(),
        "data": message.data,
        "added_at": time.time(),
    }
    dialect = dialect_of(session)
    insert = insert_into(OUTBOX, dialect).values(row)
    insert = insert.on_conflict_do_nothing(index_elements=["id"])
    if dialect.name == "postgresql":
        # In the same round trip; PostgreSQL tells it when the transaction commits.
        insert = insert.returning(func.pg_notify(CHANNEL, ""))
    await session.execute(insert)
