"""Which trace made an observation: only one that can be looked up."""

from __future__ import annotations

import pytest

from kitmsg.message import Message
from kitmsg.metrics.exemplars import trace_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def _message(traceparent: str) -> Message:
    block = f"NATS/1.0\r\ntraceparent: {traceparent}\r\n\r\n".encode()
    return Message(subject="a.b", data=b"", header_block=block)


def test_a_sampled_trace_is_an_exemplar() -> None:
    """By its trace id and the span that called."""
    assert trace_of(_message(f"00-{TRACE}-{SPAN}-01")) == (TRACE, SPAN)


def test_a_trace_before_other_headers_is_found() -> None:
    """Another client may write it anywhere."""
    block = f"NATS/1.0\r\nTraceparent: 00-{TRACE}-{SPAN}-01\r\na: b\r\n\r\n".encode()
    message = Message(subject="a.b", data=b"", header_block=block)
    assert trace_of(message) == (TRACE, SPAN)


@pytest.mark.parametrize(
    ("lines", "trace"),
    [
        (f"b3: {TRACE}-{SPAN}-1", TRACE),
        (f"b3: {TRACE}-{SPAN}-d-{SPAN}", TRACE),
        (f"B3: {TRACE[:16]}-{SPAN}-1", TRACE[:16].zfill(32)),
        (f"X-B3-TraceId: {TRACE}\r\nX-B3-SpanId: {SPAN}\r\nX-B3-Sampled: 1", TRACE),
        (f"X-B3-TraceId: {TRACE}\r\nX-B3-SpanId: {SPAN}\r\nX-B3-Flags: 1", TRACE),
        (f"b3: {TRACE}-{SPAN}", None),
        (f"b3: {TRACE}-{SPAN}-0", None),
        ("b3: 0", None),
        (f"b3: {'0' * 32}-{SPAN}-1", None),
        (f"X-B3-TraceId: {TRACE}\r\nX-B3-Sampled: 1", None),
        (f"X-B3-TraceId: {TRACE}\r\nX-B3-SpanId: {SPAN}\r\nX-B3-Sampled: 0", None),
    ],
)
def test_a_trace_of_zipkins_is_one_too(lines: str, trace: str | None) -> None:
    """In one header or in several, where it is sampled; 64 bits are filled up."""
    block = f"NATS/1.0\r\n{lines}\r\n\r\n".encode()
    found = trace_of(Message(subject="a.b", data=b"", header_block=block))
    assert found == (None if trace is None else (trace, SPAN))


@pytest.mark.parametrize(
    "traceparent",
    [
        f"00-{TRACE}-{SPAN}-00",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        "",
    ],
    ids=["not sampled", "no trace", "no span", "no version", "short", "empty"],
)
def test_a_trace_that_nobody_has_is_none(traceparent: str) -> None:
    """Not sampled, or a header that W3C Trace Context calls invalid."""
    assert trace_of(_message(traceparent)) is None
