"""Spans as OTLP has them, in bytes, without an object of protobuf for each.

OTLP 1.10, opentelemetry/proto/trace/v1/trace.proto; tags are field numbers times 8 and a
wire type.  A span takes two microseconds this way, and twenty through generated classes.
Hot path: `span_bytes`.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from kitmsg.tracing.conventions import (
    MAILBOX,
    MAILBOX_SECONDS,
    OK,
    SCHEMA_URL,
    SCOPE,
)
from kitmsg.tracing.turns import Brief, Ended, Turn

if TYPE_CHECKING:
    from opentelemetry.trace import Link, SpanKind

    from kitmsg.tracing.operations import RecordedOperation
    from kitmsg.tracing.spans import RecordedSpan

__all__ = [
    "attributes_bytes",
    "brief_encoder",
    "head_bytes",
    "packed",
    "request_bytes",
    "span_bytes",
    "status_attribute",
    "turn_encoder",
]

_KINDS: Final = {"INTERNAL": 1, "SERVER": 2, "CLIENT": 3, "PRODUCER": 4, "CONSUMER": 5}
_ROOT: Final = struct.Struct("<2s16s2s8s").pack
_CHILD: Final = struct.Struct("<2s16s2s8s2s8s").pack
_TIMES: Final = struct.Struct("<cQcQ").pack
_DOUBLE: Final = struct.Struct("<cd").pack
_FIXED64: Final = struct.Struct("<cQ").pack
_FIXED32: Final = struct.Struct("<2sI").pack
_ATTRIBUTES, _EVENTS, _LINKS, _STATUS = b"\x4a", b"\x5a", b"\x6a", b"\x7a"
_ONE_BYTE: Final = 0x80
_SHORT: Final = frozenset((str, int))
_MOST_SHORT: Final = 64


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= _ONE_BYTE:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(tag: bytes, data: bytes) -> bytes:
    size = len(data)
    if size < _ONE_BYTE:
        return b"%b%c%b" % (tag, size, data)
    return tag + _varint(size) + data


def _value(value: Any) -> bytes:  # noqa: PLR0911  # one for each type
    """Return an ``AnyValue``."""
    match value:
        case bool():
            return b"\x10\x01" if value else b"\x10\x00"
        case int():
            return b"\x18" + _varint(value & 0xFFFFFFFFFFFFFFFF)
        case float():
            return _DOUBLE(b"\x21", value)
        case bytes():
            return _field(b"\x3a", value)
        case list() | tuple():
            items = b"".join(_field(b"\x0a", _value(each)) for each in value)
            return _field(b"\x2a", items)
        case _:
            return _field(b"\x0a", str(value).encode(errors="replace"))


def _pair(name: str, value: Any) -> bytes:
    """Return a ``KeyValue``."""
    return _field(b"\x0a", name.encode()) + _field(b"\x12", _value(value))


def attributes_bytes(attributes: Mapping[str, Any]) -> bytes:
    """Return the attributes of a span."""
    return b"".join(
        [
            _repeated(name, value)
            if type(value) in _SHORT and len(str(value)) <= _MOST_SHORT
            else _field(_ATTRIBUTES, _pair(name, value))
            for name, value in attributes.items()
        ]
    )


@functools.lru_cache(maxsize=4096, typed=True)
def _repeated(name: str, value: str | int) -> bytes:
    """Return an attribute that many spans have: a method, a route, a status, an address."""
    return _field(_ATTRIBUTES, _pair(name, value))


def status_attribute(name: str, code: str) -> bytes:
    """Return one attribute of a span."""
    return _field(_ATTRIBUTES, _pair(name, code))


def head_bytes(name: str, kind: SpanKind) -> bytes:
    """Return name and kind of a span."""
    return (
        _field(b"\x2a", name.encode(errors="replace")) + b"\x30%c" % _KINDS[kind.name]
    )


_WAITED: Final = _field(b"\x12", MAILBOX.encode())
_WAIT_PAIR: Final = _field(b"\x0a", MAILBOX_SECONDS.encode()) + b"\x12\x09\x21"
_WAIT_HEAD: Final = _WAITED + b"\x1a%c" % (len(_WAIT_PAIR) + 8) + _WAIT_PAIR
_WAIT_SIZE: Final = 9 + len(_WAIT_HEAD) + 8
_WAIT: Final = struct.Struct(f"<3sQ{len(_WAIT_HEAD)}sd").pack
_WAIT_TAG: Final = b"%b%c\x09" % (_EVENTS, _WAIT_SIZE)


def span_bytes(span: RecordedSpan) -> bytes:
    """Return one span, as a field of ``ScopeSpans``."""
    from_hex, operation = bytes.fromhex, span.operation
    trace, own = from_hex(span.trace.decode()), from_hex(span.id.decode())
    if span.parent:
        parent = from_hex(span.parent.decode())
        ids = _CHILD(b"\x0a\x10", trace, b"\x12\x08", own, b"\x22\x08", parent)
    else:
        ids = _ROOT(b"\x0a\x10", trace, b"\x12\x08", own)
    name = operation.head
    if span.name != operation.name:
        name = head_bytes(span.name, operation.kind)
    times = _TIMES(b"\x39", span.start, b"\x41", span.stop)
    parts = [ids, name, times, operation.tail]
    if operation.has_status:
        parts.append(operation.status(span.code))
    if span.wait is not None:
        parts.append(_WAIT(_WAIT_TAG, span.begun, _WAIT_HEAD, span.wait))
    if span.attributes or span.events or span.links or span.state:
        parts.append(_rest(span))
    if span.failure is not None:
        text = _field(b"\x12", span.failure.encode(errors="replace"))
        parts.append(_field(_STATUS, text + b"\x18\x02"))
    return _field(b"\x12", b"".join(parts))


def _rest(span: RecordedSpan) -> bytes:
    """Return what few spans have."""
    parts = [attributes_bytes(span.attributes or {})]
    for at, name, attributes in span.events or ():
        pairs = b"".join(_field(b"\x1a", _pair(n, v)) for n, v in attributes.items())
        event = _FIXED64(b"\x09", at) + _field(b"\x12", name.encode()) + pairs
        parts.append(_field(_EVENTS, event))
    parts += [_field(_LINKS, _link(link)) for link in span.links]
    if span.state:
        parts.append(_field(b"\x1a", span.state.encode()))
    return b"".join(parts)


def _link(link: Link) -> bytes:
    of = link.context
    ids = _ROOT(
        *(b"\x0a\x10", of.trace_id.to_bytes(16)),
        *(b"\x12\x08", of.span_id.to_bytes(8)),
    )
    pairs = (link.attributes or {}).items()
    return ids + b"".join(_field(b"\x22", _pair(n, v)) for n, v in pairs)


def brief_encoder(operation: RecordedOperation) -> Callable[[Brief], bytes]:
    """Return what encodes calls of an operation that have nothing of their own.

    All have one length, and so one pack of a struct does.
    """
    head, tail = _constant(operation)
    pack_root, for_root = _packing("2s8s", head, tail)
    pack, front = _packing("2s8s2s8s", head, tail)
    from_hex = bytes.fromhex

    def encode(brief: Brief) -> bytes:
        trace, own, parent = brief.trace, brief.own, brief.parent
        start, stop = brief.start, brief.stop
        # fmt: off
        if not parent:
            return pack_root(
                for_root, trace, b"\x12\x08", own,
                head, start, b"\x41", stop, tail,
            )
        ids = trace if isinstance(trace, bytes) else from_hex(trace)
        return pack(
            front, ids, b"\x12\x08", own, b"\x22\x08", from_hex(parent),
            head, start, b"\x41", stop, tail,
        )
        # fmt: on

    return encode


def turn_encoder(operation: RecordedOperation) -> Callable[[Turn], bytes]:
    """Return what encodes turns of an operation that have nothing of their own."""
    head, tail = _constant(operation)
    pack, front = _packing("2s8s2s8s", head, tail, f"3sQ{len(_WAIT_HEAD)}sd")

    def encode(turn: Turn) -> bytes:
        start, wait = turn.start, turn.wait
        own, left = turn.own.to_bytes(8), start + int(wait * 1e9)
        # fmt: off
        return pack(
            front, turn.trace, b"\x12\x08", own, b"\x22\x08", turn.parent,
            head, start, b"\x41", turn.stop, tail,
            _WAIT_TAG, left, _WAIT_HEAD, wait,
        )
        # fmt: on

    return encode


def _constant(operation: RecordedOperation) -> tuple[bytes, bytes]:
    """Return what stands between ids and times of a span, and behind them."""
    status = operation.status(OK) if operation.has_status else b""
    return operation.head + b"\x39", operation.tail + status


def _packing(
    ids: str, head: bytes, tail: bytes, more: str = ""
) -> tuple[Callable[..., bytes], bytes]:
    """Return the pack of spans of one form, and how each of them begins."""
    form = f"16s{ids}{len(head)}sQcQ{len(tail)}s{more}"
    front = b"\x12" + _varint(struct.calcsize(f"<2s{form}")) + b"\x0a\x10"
    return struct.Struct(f"<{len(front)}s{form}").pack, front


def packed(span: Ended) -> RecordedSpan | bytes:
    """Return a span as a field of ``ScopeSpans``, if it has nothing of its own; else itself.

    Of what waits to be exported then, one object is left for each span: many small ones that
    live long would spread the memory of all the calls between.
    """
    if isinstance(span, Brief):
        return span.operation.brief_bytes(span)
    if isinstance(span, Turn):
        return span.operation.turn_bytes(span)
    return span


def request_bytes(resource: Mapping[str, Any], spans: Sequence[Ended | bytes]) -> bytes:
    """Return an ``ExportTraceServiceRequest``.

    Args:
        resource: Attributes of this process.
        spans: What has ended, `packed` or not.
    """
    of = b"".join(_field(b"\x0a", _pair(n, v)) for n, v in resource.items())
    scope = _field(b"\x0a", _field(b"\x0a", SCOPE.encode()))
    url = _field(b"\x1a", SCHEMA_URL.encode())
    small = [each if isinstance(each, bytes) else packed(each) for each in spans]
    encoded = [each if isinstance(each, bytes) else span_bytes(each) for each in small]
    scoped = scope + b"".join(encoded) + url
    return _field(b"\x0a", _field(b"\x0a", of) + _field(b"\x12", scoped))
