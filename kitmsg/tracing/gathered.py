"""Spans that go back to the caller in its reply, for ``kitmsg call --trace``.

A request asks with ``Kit-Trace``; a worker that allows it answers with ``Kit-Spans``: JSON
in base64, bounded in number and in bytes.  Spans of nested calls come the same way, from
reply to reply.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, Final

import msgspec
from opentelemetry.context import create_key

if TYPE_CHECKING:
    from kitmsg.tracing.spans import RecordedSpan

__all__ = ["BAG", "MAX_BYTES", "MAX_SPANS", "Bag", "Gathered", "decode_spans"]

BAG: Final = create_key("kitmsg.bag")
"""Key of the `Bag` in an OpenTelemetry context."""

MAX_SPANS: Final = 200
MAX_BYTES: Final = 48 << 10
"""Longest header of spans; those that ended first are kept."""


class Gathered(msgspec.Struct, frozen=True, omit_defaults=True):
    """A span in a reply.

    Attributes:
        id: Span id, in hexadecimal.
        parent: That of its parent; "" for a root.
        name: Of the span.
        kind: ``client``, ``server`` or ``internal``.
        start: Nanoseconds since the epoch; `stop` too.
        process: Service name of the process.
        attributes: Those that are texts or numbers.
        events: Nanoseconds since the epoch, name and attributes.
        failure: Description of an error; None for none.
    """

    id: str
    name: str
    kind: str
    start: int
    stop: int
    parent: str = ""
    process: str = ""
    attributes: dict[str, Any] = {}
    events: list[tuple[int, str, dict[str, Any]]] = []
    failure: str | None = None


_decode: Final = msgspec.json.Decoder(list[Gathered]).decode


def decode_spans(text: str) -> list[Gathered]:
    """Return the spans in a header; none for one that cannot be read."""
    try:
        return _decode(base64.b64decode(text))[:MAX_SPANS]
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError, ValueError):
        return []


class Bag:
    """The spans of one call, as they end."""

    process = ""
    """Service name of this process."""

    def __init__(self) -> None:
        self._spans: list[Gathered] = []

    def put(self, span: RecordedSpan) -> None:
        """Take a span that has ended."""
        self.take(_of(span, span.stop))

    def take(self, span: Gathered) -> None:
        """Take a span, if there is room."""
        if len(self._spans) < MAX_SPANS:
            self._spans.append(span)

    def add(self, text: str) -> None:
        """Take the spans of a reply's header."""
        for span in decode_spans(text):
            self.take(span)

    def spans(self) -> list[Gathered]:
        """Return what there is."""
        return list(self._spans)

    def text(self, running: RecordedSpan) -> str:
        """Return all of it as a header, with a span that has not ended yet.

        Of several that are too long together, those that ended first are kept.
        """
        from time import time_ns

        own = running.id.decode()
        others = [span for span in self._spans if span.id != own]
        spans = [_of(running, running.stop or time_ns()), *others]
        while True:
            text = base64.b64encode(msgspec.json.encode(spans)).decode()
            if len(text) <= MAX_BYTES:
                return text
            if len(spans) == 1:
                return ""
            spans = spans[: len(spans) * 3 // 4]


def _of(span: RecordedSpan, stop: int) -> Gathered:
    from kitmsg.tracing.conventions import MAILBOX, MAILBOX_SECONDS, RPC_STATUS

    operation = span.operation
    attributes = {**operation.attributes, **(span.attributes or {})}
    if span.code and operation.has_status:
        attributes[RPC_STATUS] = span.code
    events = [(at, name, dict(given)) for at, name, given in span.events or ()]
    if span.wait is not None:
        events.insert(0, (span.begun, MAILBOX, {MAILBOX_SECONDS: span.wait}))
    return Gathered(
        id=span.id.decode(),
        parent=span.parent.decode(),
        name=span.name,
        kind=operation.kind.name.lower(),
        start=span.start,
        stop=stop,
        process=Bag.process,
        attributes={
            n: v for n, v in attributes.items() if isinstance(v, (str, int, float))
        },
        events=events,
        failure=span.failure,
    )
