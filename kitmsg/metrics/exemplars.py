"""Trace of a message, for exemplars: which trace made an observation."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from kitmsg.wire import TRACEPARENT

if TYPE_CHECKING:
    from kitmsg.message import Message

__all__ = ["trace_of"]

_TRACEPARENT: Final = re.compile(
    r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})"
)
_SAMPLED: Final = 1


def trace_of(message: Message) -> tuple[str, str] | None:
    """Return the trace id and span id that a message brings; None where none is kept.

    Source: W3C Trace Context.  A trace that is not sampled cannot be looked up, so it is
    no exemplar.
    """
    if b"trace" not in message.header_block.lower():
        return None  # most messages: their headers need not even be parsed
    found = _TRACEPARENT.fullmatch(message.headers.get(TRACEPARENT, ""))
    if found is None or not int(found[3], 16) & _SAMPLED:
        return None
    return found[1], found[2]
