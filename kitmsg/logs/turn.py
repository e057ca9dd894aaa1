"""Facts of the turn that runs, for the lines that are written within it.

They are looked up when a line is written, so a turn that logs nothing pays nothing.  The
context variable of the turn is seen by its tasks, by the threads of ``def`` endpoints and
by streams; a line is formatted where it is written, unless a `QueueHandler` stands between:
give that one a `TurnFilter`.
"""

from __future__ import annotations

import logging
from typing import Final

from kitmsg.context import current
from kitmsg.tracing import current_ids
from kitmsg.tracing.ids import message_ids

__all__ = ["NAMES", "TURN", "TurnFilter", "turn_facts", "turn_of"]

TURN: Final = "_turn"
"""Attribute of a record that keeps the facts of its turn, for handlers elsewhere."""

NAMES: Final = (
    *("service", "endpoint", "caller"),
    *("request_id", "trace_id", "span_id"),
)
"""The facts that there may be."""


def turn_facts() -> dict[str, str]:
    """Return the facts of the running turn by name; none outside any.

    ``service``, ``endpoint``, ``request_id``, and where they are known ``caller``,
    ``trace_id`` and ``span_id``.  The span is OpenTelemetry's where one is active, also
    outside a turn; else that of the ``traceparent``, or B3, which came with the request.
    """
    facts: dict[str, str] = {}
    ctx = current()
    ids = current_ids()
    if ctx.message is not None:
        facts["service"] = ctx.endpoint.partition(".")[0]
        facts["endpoint"] = ctx.endpoint
        if ctx.caller:
            facts["caller"] = ctx.caller
        facts["request_id"] = ctx.request_id
        if ids is None and (given := message_ids(ctx.message)):
            ids = given[:2]
    if ids is not None:
        facts["trace_id"], facts["span_id"] = ids
    return facts


def turn_of(record: logging.LogRecord) -> dict[str, str]:
    """Return the facts of the turn that a record was written in."""
    kept: dict[str, str] | None = getattr(record, TURN, None)
    return turn_facts() if kept is None else kept


class TurnFilter(logging.Filter):
    """Puts the facts of the turn on each record, for a handler of your own.

    A format may name them all, such as ``%(trace_id)s``; one that is not known is "".  On a
    `QueueHandler` it keeps the facts for the handlers behind the queue.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the facts; every record passes."""
        facts = turn_of(record)
        setattr(record, TURN, facts)
        for name in NAMES:
            if not hasattr(record, name):
                setattr(record, name, facts.get(name, ""))
        return True
