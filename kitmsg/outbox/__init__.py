"""Transactional outbox and inbox for SQLAlchemy 2: PostgreSQL and SQLite, by asyncio.

    tables.py   the tables, as `metadata` for Alembic
    adding.py   `add`: an event that leaves if the session's transaction commits
    inbox.py    `seen`: whether a delivery had its effect in this database before
    rows.py     queries of the relay
    seat.py     the one relay that works: an advisory lock, or a lease; and its waking
    held.py     keys that wait because one of their events is refused
    signals.py  its metrics and its log
    relay.py    `Relay`: publishes what was committed, in order

What is promised:

- An event leaves if and only if the transaction that it was added in commits.
- It is published at least once, under one message id, so its stream has it once within the
  stream's window of duplicates.
- Events of one key are stored in the order of their rows.  That is the order of their
  transactions where one began to add after the other had committed.
- One relay works at a time, however many run; another takes over when it is gone.

Needs ``pip install 'kitmsg[outbox]'``.
"""

from __future__ import annotations

from kitmsg.outbox.adding import add
from kitmsg.outbox.inbox import seen
from kitmsg.outbox.relay import Relay
from kitmsg.outbox.tables import make_tables, metadata

__all__ = ["Relay", "add", "make_tables", "metadata", "seen"]
