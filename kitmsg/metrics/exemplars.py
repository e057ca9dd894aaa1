"""Trace of a message, for exemplars: which trace made an observation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitmsg.tracing.ids import given_ids, message_ids
from kitmsg.wire import last_trace

if TYPE_CHECKING:
    from kitmsg.message import Message

__all__ = ["trace_of"]


def trace_of(message: Message) -> tuple[str, str] | None:
    """Return the trace id and span id that a message brings; None where none is kept.

    Source: W3C Trace Context, and B3.  A trace that is not sampled cannot be looked up, so
    it is no exemplar.
    """
    value = last_trace(message.header_block)
    if value is not None and value.endswith("-00"):
        return None  # not sampled, as most are
    found = given_ids(value) if value is not None else None
    if found is None:
        found = message_ids(message)
    return found[:2] if found is not None and found[2] else None
