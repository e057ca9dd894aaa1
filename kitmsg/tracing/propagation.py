"""Trace and baggage in headers, as ``OTEL_PROPAGATORS`` says.

By default W3C Trace Context and W3C Baggage go out, and B3 (one header or several) is read
too where a caller has nothing else.  Hot path: a ``traceparent`` as kitmsg writes it, last
in a header block, is read and written here without a parse of the headers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from random import getrandbits
from typing import Any, Final

from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    get_current_span,
    set_span_in_context,
)

from kitmsg.message import Message
from kitmsg.wire import B3, TRACE, TRACE_MARK

__all__ = [
    "are_ids",
    "extract",
    "has_more",
    "has_none",
    "inject",
    "is_default",
    "remote",
    "span_context_of",
    "split",
]

_IDS: Final = re.compile(
    rb"(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})\r\n\r\n"
).fullmatch
_W3C: Final = frozenset(TRACE)
_ONE, _TRACE_ID, _, _, _SAMPLED, _ = B3
_LOOKED_FOR: Final = (*TRACE, _ONE, _TRACE_ID, _SAMPLED)
_OTHERS: Final = (b"tracestate", b"baggage")
_ANY: Final = (b"traceparent", b"b3", *_OTHERS)


class _Getter(Getter[Mapping[str, Any]]):
    """Reads headers that may have several values, whatever the case of their names."""

    def get(self, carrier: Mapping[str, Any], key: str) -> list[str] | None:
        """Return the values of a header; None without it."""
        every = getattr(carrier, "getall", None)
        if every is not None:
            return list(every(key, [])) or None
        value = carrier.get(key.lower())
        if value is None:
            return None
        return [value] if isinstance(value, str) else list(value) or None

    def keys(self, carrier: Mapping[str, Any]) -> list[str]:
        """Return the names."""
        return list(carrier)


_GETTER: Final = _Getter()


def is_default() -> bool:
    """Tell whether W3C headers go out, and nothing else."""
    return set(propagate.get_global_textmap().fields) == _W3C


def extract(
    carrier: Mapping[str, Sequence[str] | str], *, is_public: bool = False
) -> Context:
    """Return the OpenTelemetry context that headers tell of.

    Args:
        carrier: Values by name; a plain dict has names in lower case.
        is_public: Whether a stranger sent them, whose baggage does not count.
    """
    given: Any = carrier
    if is_public:
        given = {n.lower(): v for n, v in _items(carrier) if n.lower() != "baggage"}
    context = propagate.extract(given, context=Context(), getter=_GETTER)
    if span_context_of(context).is_valid:
        return context
    if not is_public and _is_denied(given):
        return set_span_in_context(_unkept(), context)
    if "OTEL_PROPAGATORS" in os.environ:
        return context
    if any(_GETTER.get(given, name) for name in (_ONE, _TRACE_ID)):
        return _b3().extract(given, context=context, getter=_GETTER)  # type: ignore[no-any-return]
    return context


def _is_denied(carrier: Mapping[str, Any]) -> bool:
    """Tell whether a caller decided that a trace is not kept, and gave it no ids.

    Source: github.com/openzipkin/b3-propagation, "Sampling State", Deny.
    """
    return _GETTER.get(carrier, _ONE) == ["0"] or (
        _GETTER.get(carrier, _SAMPLED) == ["0"] and not _GETTER.get(carrier, _TRACE_ID)
    )


def _unkept() -> NonRecordingSpan:
    """Return a parent that is not kept, so that nothing below it is."""
    trace, span = getrandbits(128) or 1, getrandbits(64) or 1
    return NonRecordingSpan(SpanContext(trace, span, is_remote=True))


def _items(carrier: Mapping[str, Any]) -> Sequence[tuple[str, Any]]:
    every = getattr(carrier, "getall", None)
    return [(n, carrier[n] if every is None else every(n)) for n in set(carrier)]


def _b3() -> Any:
    try:
        from opentelemetry.propagators.b3 import B3MultiFormat  # reads both forms
    except ImportError:  # a program with an SDK of its own need not have it
        return propagate.get_global_textmap()
    return B3MultiFormat()


def has_none(carrier: Mapping[str, Sequence[str] | str]) -> bool:
    """Tell whether headers tell of no trace, and of no baggage."""
    return not any(name in carrier for name in _LOOKED_FOR)


def inject(context: Context) -> dict[str, str]:
    """Return the headers that tell of a context."""
    fields: dict[str, str] = {}
    propagate.inject(fields, context=context)
    return fields


def span_context_of(context: Context) -> SpanContext:
    """Return the span of an OpenTelemetry context."""
    return get_current_span(context).get_span_context()


def are_ids(trace: bytes, span: bytes) -> bool:
    """Tell whether ids are what they should be; those of a header were only cut out."""
    return _IDS(b"%b-%b-00\r\n\r\n" % (trace, span)) is not None


def has_more(block: bytes) -> bool:
    """Tell whether a header block has state of a trace, or baggage."""
    lower = block.lower()
    return any(name in lower for name in _OTHERS)


def split(block: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Return trace id, span id and flags of a block that has nothing else to extract.

    In hexadecimal.  None for a block that `extract` has to read; b"" for no trace.
    """
    head, _, tail = block.rpartition(TRACE_MARK)
    ids = _IDS(tail)
    if ids:
        return None if has_more(head) else (ids[1], ids[2], ids[3])
    lower = block.lower()
    return None if any(name in lower for name in _ANY) else (b"", b"", b"")


def remote(message: Message) -> Context:
    """Return the OpenTelemetry context that a message's headers tell of."""
    return extract({name.lower(): value for name, value in message.headers.items()})
