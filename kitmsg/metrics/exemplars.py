"""Trace of a message, for exemplars: which trace made an observation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kitmsg.tracing.ids import given_ids, message_ids
from kitmsg.wire import last_trace

if TYPE_CHECKING:
    from kitmsg.message import Message

__all__ = ["trace_of"]

# A header block with nothing but the shortest trace, which is B3's in one line.
_SHORTEST: Final = len(b"NATS/1.0\r\nb3:1234567890abcdef-1234567890abcdef\r\n\r\n")


def trace_of(message: Message) -> tuple[str, str] | None:
    """Return the trace id and span id that a message brings; None where none is kept.

    Source: W3C Trace Context, and B3.  A trace that is not sampled cannot be looked up, so
    it is no exemplar.
    """
    block = message.header_block
    if len(block) < _SHORTEST:  # as most are
        return None
    value = last_trace(block)
    if value is not None and value.endswith("-00"):
        return None  # not sampled, as most are
    found = given_ids(value) if value is not None else None
    if found is None:
        found = message_ids(message)
    return found[:2] if found is not None and found[2] else None
