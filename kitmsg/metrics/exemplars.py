"""Trace of a message, for exemplars: which trace made an observation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitmsg.tracing import given_ids
from kitmsg.wire import TRACEPARENT, last_trace

if TYPE_CHECKING:
    from kitmsg.message import Message

__all__ = ["trace_of"]


def trace_of(message: Message) -> tuple[str, str] | None:
    """Return the trace id and span id that a message brings; None where none is kept.

    Source: W3C Trace Context.  A trace that is not sampled cannot be looked up, so it is
    no exemplar.
    """
    block = message.header_block
    value = last_trace(block)
    if value is None:
        if b"trace" not in block.lower():
            return None  # most messages: their headers need not even be parsed
        value = message.headers.get(TRACEPARENT, "")
    elif value.endswith("-00"):
        return None
    found = given_ids(value)
    return found[:2] if found is not None and found[2] else None
