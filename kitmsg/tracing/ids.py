"""Trace and span id that headers tell of, without OpenTelemetry: for logs and exemplars."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from kitmsg.wire import B3, TRACEPARENT, last_trace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kitmsg.message import Message

    Carrier = Mapping[str, Sequence[str] | str]

__all__ = ["given_ids", "ids_in", "message_ids", "sampled_ids"]

# W3C Trace Context, section 3.2; zeros only are no id, and ff is no version.
_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})"
)
_SAMPLED: Final = 1
# Source: github.com/openzipkin/b3-propagation, "Single Header" and "Multiple Headers".
_B3: Final = re.compile(
    r"(?!0+-)([0-9a-f]{32}|[0-9a-f]{16})-(?!0{16})([0-9a-f]{16})"
    r"(?:-([01dtruefals]+)(?:-[0-9a-f]{16})?)?"
)
_ONE, _TRACE_ID, _SPAN_ID, _, _IS_SAMPLED, _FLAGS = B3
_TAKEN: Final = frozenset({"1", "d", "true"})


def given_ids(traceparent: str) -> tuple[str, str, bool] | None:
    """Return trace id, span id and whether it is sampled; None for a broken header."""
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None:
        return None
    return found[1], found[2], bool(int(found[3], 16) & _SAMPLED)


def ids_in(carrier: Carrier) -> tuple[str, str, bool] | None:
    """Return trace id, span id and whether it is sampled, of W3C's header or else of B3's.

    A trace id of 64 bits is filled up with zeros, as OpenTelemetry does.  A caller that
    leaves the decision to others has not sampled.

    Args:
        carrier: Values by name; a plain dict has names in lower case.
    """
    found = given_ids(_value(carrier, TRACEPARENT))
    if found is not None:
        return found
    one = _value(carrier, _ONE)
    if not one:
        trace, span = _value(carrier, _TRACE_ID), _value(carrier, _SPAN_ID)
        debug = "d" if _value(carrier, _FLAGS) == "1" else ""
        sampled = debug or _value(carrier, _IS_SAMPLED)
        one = f"{trace}-{span}-{sampled}" if sampled else f"{trace}-{span}"
    ids = _B3.fullmatch(one.lower())
    if ids is None:
        return None
    return ids[1].zfill(32), ids[2], ids[3] in _TAKEN


def sampled_ids(carrier: Carrier) -> tuple[str, str] | None:
    """Return trace id and span id of a trace that is sampled, so that it can be found."""
    found = ids_in(carrier)
    return found[:2] if found is not None and found[2] else None


def message_ids(message: Message) -> tuple[str, str, bool] | None:
    """Return what `ids_in` finds in the headers of a message."""
    block = message.header_block
    value = last_trace(block)
    found = None if value is None else given_ids(value)
    if found is not None:
        return found
    block = block.lower()
    if (
        b"\r\ntrace" not in block
        and b"\r\nb3:" not in block
        and b"\r\nx-b3" not in block
    ):
        return None  # most messages: their headers need not even be parsed
    return ids_in({name.lower(): value for name, value in message.headers.items()})


def _value(carrier: Carrier, name: str) -> str:
    value = carrier.get(name, "")
    if isinstance(value, str):
        return value
    return value[0] if len(value) == 1 else ""
