"""Names on the wire: every header, control subject and metadata key, once.  No I/O here.

`docs/protocol.md` states what each means, with examples.  Sources: NATS ADR-4 (headers),
ADR-32 (``$SRV``, ``Nats-Service-Error``), W3C Trace Context and W3C Baggage.

Here too is the one rounding of a call's time: seconds on this side, whole milliseconds in
``Kit-Timeout``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from kitmsg.errors import InvalidArgument
from kitmsg.message import encode_headers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kitmsg.message import Message

__all__ = [
    "AUTHORIZATION",
    "B3",
    "BAGGAGE",
    "BEAT",
    "BEGAN",
    "BODY",
    "BODY_BYTES",
    "CALLER",
    "CANCEL",
    "CE_ID",
    "CE_SCHEMA",
    "CE_SOURCE",
    "CE_SPEC",
    "CE_TIME",
    "CE_TYPE",
    "CODE",
    "CONTENT_TYPE",
    "CREDIT",
    "DEAD_ATTEMPTS",
    "DEAD_ERROR",
    "DEAD_REASON",
    "DEAD_REPLAYS",
    "DEAD_SEQUENCE",
    "DEAD_STREAM",
    "DEAD_SUBJECT",
    "DEAD_TIME",
    "DIRECT",
    "DOWN",
    "ERROR",
    "ERROR_FIELD",
    "ERROR_TEXT",
    "IDEMPOTENCY_KEY",
    "IDS_FROM",
    "INBOX_MARK",
    "JS_API",
    "JS_EXPECTED",
    "JS_LAST_CONSUMER",
    "JS_MARKER",
    "JS_TTL",
    "KV",
    "KV_OPERATION",
    "LEVEL",
    "MAX_TIMEOUT",
    "OWN",
    "PRINCIPAL",
    "PRINCIPAL_MARK",
    "REQUEST_ID",
    "RETRY_AFTER",
    "SCHEMA",
    "SECRET_CHARS",
    "SEQ",
    "SERVICE_ERROR",
    "SERVICE_ERROR_CODE",
    "SPANS",
    "SRV",
    "STREAM",
    "STREAM_INBOX",
    "TIMEOUT",
    "TRACE",
    "TRACEPARENT",
    "TRACESTATE",
    "TRACE_BACK",
    "TRACE_FROM",
    "TRACE_MARK",
    "UNKEPT",
    "UNKEPT_END",
    "UNKEPT_FROM",
    "UP",
    "Js",
    "Meta",
    "cancel_subject",
    "direct_subject",
    "end_call",
    "event_schema_name",
    "has_trace_last",
    "is_number",
    "is_reply_name",
    "kv_stream",
    "kv_subject",
    "last_trace",
    "level_subject",
    "milliseconds",
    "plain_headers",
    "reply_fields",
    "schema_subject",
    "schemas_subject",
    "shared_fields",
    "start_call",
    "timeout_ms",
    "traced",
    "with_fields",
]

# -- headers of requests and replies

CONTENT_TYPE: Final = "Content-Type"
TIMEOUT: Final = "Kit-Timeout"
REQUEST_ID: Final = "Kit-Request-Id"
CALLER: Final = "Kit-Caller"
PRINCIPAL: Final = "Kit-Principal"
PRINCIPAL_MARK: Final = b"\r\nKit-Principal: "
"""The principal's header in a block, as it has to be written to be looked at."""

IDEMPOTENCY_KEY: Final = "Kit-Idempotency-Key"
AUTHORIZATION: Final = "Authorization"
TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
BAGGAGE: Final = "baggage"

TRACE: Final = (TRACEPARENT, TRACESTATE, BAGGAGE)
"""Trace context and baggage, which cross every hop unchanged."""

B3: Final = (
    *("b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid"),
    *("x-b3-sampled", "x-b3-flags"),
)
"""The same as Zipkin's B3 has it, in one header or in several; in lower case."""

TRACE_MARK: Final = b"\r\ntraceparent: 00-"
"""How the trace of a call begins in a block, as `traced` writes it: last of all."""

UNKEPT: Final = b"b3: 0\r\n\r\n"
"""The end of a block where a trace begins that is not kept, and whose ids nobody has seen.

Zipkin's "B3 Single Header", a decision to deny: all such calls have it alike, so that none
of them costs what ids do.
"""

UNKEPT_END: Final = b"\r\n" + UNKEPT
"""How a block ends that says so, in `UNKEPT_FROM` bytes."""

UNKEPT_FROM: Final = -len(UNKEPT_END)

TRACE_BACK: Final = "Kit-Trace"
"""On a request: the spans of this call are wanted; see `kitmsg.tracing.gathered`."""

SPANS: Final = "Kit-Spans"
"""On a reply: the spans of its call."""

# -- headers of errors

CODE: Final = "Kit-Code"
ERROR: Final = "Kit-Error"
ERROR_FIELD: Final = "Kit-Error-Field"
ERROR_TEXT: Final = "Kit-Error-Text"
RETRY_AFTER: Final = "Kit-Retry-After"
BEGAN: Final = "Kit-Began"
SERVICE_ERROR: Final = "Nats-Service-Error"
SERVICE_ERROR_CODE: Final = "Nats-Service-Error-Code"

# -- headers of streams and of bodies that travel as one

STREAM: Final = "Kit-Stream"
CREDIT: Final = "Kit-Credit"
SEQ: Final = "Kit-Seq"
BEAT: Final = "Kit-Heartbeat"
BODY: Final = "Kit-Body"
BODY_BYTES: Final = "Kit-Body-Bytes"

# -- headers of events (CloudEvents 1.0, "NATS Protocol Binding", binary mode)

CE_SPEC: Final = "ce-specversion"
CE_ID: Final = "ce-id"
CE_TYPE: Final = "ce-type"
CE_SOURCE: Final = "ce-source"
CE_TIME: Final = "ce-time"
CE_SCHEMA: Final = "ce-dataschema"

# -- headers of dead letters

DEAD_REASON: Final = "Kit-Dead-Reason"
DEAD_ERROR: Final = "Kit-Dead-Error"
DEAD_ATTEMPTS: Final = "Kit-Dead-Attempts"
DEAD_SUBJECT: Final = "Kit-Dead-Subject"
DEAD_STREAM: Final = "Kit-Dead-Stream"
DEAD_SEQUENCE: Final = "Kit-Dead-Sequence"
DEAD_TIME: Final = "Kit-Dead-Time"
DEAD_REPLAYS: Final = "Kit-Dead-Replays"

# -- headers that a handler may add to its reply

_TOKEN: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_OWN_STARTS: Final = (
    *("kit-", "nats-", "grpc-", "content-", "access-control-", "proxy-", "sec-"),
)
_OWN: Final = frozenset(
    {
        *(name.lower() for name in (*TRACE, *B3, AUTHORIZATION)),
        *("connection", "date", "description", "host", "keep-alive", "server"),
        *(
            "status",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "x-content-type-options",
            "x-request-id",
        ),
    }
)


def is_reply_name(name: str) -> bool:
    """Tell whether a handler may set the reply header `name`, in lower case.

    Not those that kitmsg, NATS, HTTP or gRPC set or act upon themselves.
    """
    return (
        name not in _OWN
        and not name.startswith(_OWN_STARTS)
        and bool(_TOKEN.fullmatch(name))
    )


def reply_fields(message: Message) -> dict[str, str]:
    """Return the headers of a reply that its handler set, by name in lower case."""
    if not message.header_block:
        return {}
    return {
        name: value
        for name, value in message.headers.items()
        if is_reply_name(name) and value.isascii() and value.isprintable()
    }


# -- subjects

SRV: Final = "$SRV"
"""First token of the subjects of NATS micro's discovery."""

CANCEL: Final = "_kit.cancel"
"""First tokens of the subject on which a caller gives up an ask; see `cancel_subject`."""

DIRECT: Final = "_kit.i"
"""First tokens of the subjects of one instance; see `direct_subject`."""

UP: Final = "_kit.up"
"""First tokens of the subject on which a new instance publishes its INFO."""

DOWN: Final = "_kit.down"
"""First tokens of the subject on which an instance that leaves publishes its id."""

LEVEL: Final = "_kit.log"
"""First tokens of the subject that sets log levels for a while; see `level_subject`."""

SCHEMA: Final = "_kit.schema"
"""First tokens of the subject that serves a schema by its hash."""


KV: Final = "$JS.API.DIRECT.GET.KV_"
"""First tokens of the subject that reads a key-value bucket of NATS; see `kv_subject`."""


def kv_subject(bucket: str, key: str) -> str:
    """Return where the last value of a key is read (NATS ADR-8, ADR-31: direct get)."""
    return f"{KV}{bucket}.$KV.{bucket}.{key}"


def kv_stream(bucket: str) -> str:
    """Return the stream that keeps a bucket (NATS ADR-8)."""
    return f"KV_{bucket}"


JS_API: Final = "$JS.API"
"""First tokens of the subjects of JetStream's API."""

JS_EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
JS_LAST_CONSUMER: Final = "Nats-Last-Consumer"
JS_TTL: Final = "Nats-TTL"
JS_MARKER: Final = "Nats-Marker-Reason"
KV_OPERATION: Final = "KV-Operation"


class Js:
    """Headers of JetStream: of what is stored, of what is read, of pulls."""

    MESSAGE_ID: Final = "Nats-Msg-Id"
    EXPECTED_STREAM: Final = "Nats-Expected-Stream"
    EXPECTED_LAST: Final = "Nats-Expected-Last-Sequence"
    EXPECTED_LAST_ID: Final = "Nats-Expected-Last-Msg-Id"
    EXPECTED_SUBJECT: Final = "Nats-Expected-Last-Subject-Sequence-Subject"
    ROLLUP: Final = "Nats-Rollup"
    SCHEDULE: Final = "Nats-Schedule"
    SCHEDULE_TARGET: Final = "Nats-Schedule-Target"
    SCHEDULE_TTL: Final = "Nats-Schedule-TTL"
    SCHEDULE_ZONE: Final = "Nats-Schedule-Time-Zone"
    SCHEDULE_NEXT: Final = "Nats-Schedule-Next"
    SCHEDULER: Final = "Nats-Scheduler"
    BATCH_ID: Final = "Nats-Batch-Id"
    BATCH_SEQUENCE: Final = "Nats-Batch-Sequence"
    BATCH_COMMIT: Final = "Nats-Batch-Commit"
    REQUIRED_LEVEL: Final = "Nats-Required-Api-Level"
    STREAM: Final = "Nats-Stream"
    SUBJECT: Final = "Nats-Subject"
    SEQUENCE: Final = "Nats-Sequence"
    TIME: Final = "Nats-Time-Stamp"
    PENDING: Final = "Nats-Num-Pending"
    LAST: Final = "Nats-Last-Sequence"
    UP_TO: Final = "Nats-UpTo-Sequence"
    PULL_MESSAGES: Final = "Nats-Pending-Messages"
    PULL_BYTES: Final = "Nats-Pending-Bytes"


class Meta:
    """Keys of an endpoint's metadata in INFO."""

    SCHEMA: Final = "kit.schema"
    HTTP: Final = "kit.http"
    IDEMPOTENT: Final = "kit.idempotent"
    TIMEOUT: Final = "kit.timeout"
    CACHE: Final = "kit.cache"
    STATUS: Final = "kit.status"
    STREAM: Final = "kit.stream"
    WIRE: Final = "kit.wire"
    UPSTREAM: Final = "kit.upstream"
    INTERNAL: Final = "kit.internal"
    DURABLE: Final = "kit.durable"
    ALLOW: Final = "kit.allow"
    DESCRIPTION: Final = "description"

    # Of the service itself: names of events and schedules, with commas.
    PUBLISHES: Final = "kit.publishes"
    SUBSCRIBES: Final = "kit.subscribes"
    SCHEDULES: Final = "kit.schedules"

    # A list in JSON; see `kitmsg.discovery.events`.
    EVENTS: Final = "kit.events"


def cancel_subject(subject: str) -> str:
    """Return where to say that nobody waits any more for the answer from `subject`."""
    tokens = subject.split(".", 5)
    # `_kit.i.{service}.{instance}.{subject}` addresses one instance of a service.
    is_direct = subject.startswith(f"{DIRECT}.") and tokens[4:]
    return f"{CANCEL}.{tokens[4] if is_direct else tokens[0]}"


def direct_subject(service: str, instance: str, subject: str) -> str:
    """Return the subject of one instance of a service for what is served at `subject`.

    The service's name comes first, so that permissions can be given by it.
    """
    return f"{DIRECT}.{service}.{instance}.{subject}"


def level_subject(name: str) -> str:
    """Return where the processes of a service, or of ``gateway.KIND``, hear of log levels."""
    return f"{LEVEL}.{name}"


def schemas_subject(service: str) -> str:
    """Return where a service tells the schemas of all its endpoints."""
    return f"{service}._schema"


def event_schema_name(name: str) -> str:
    """Return the name of an event's schema among those of a service's endpoints."""
    return f"event.{name}"


def schema_subject(service: str, digest: str) -> str:
    """Return where a service serves a schema by its hash."""
    return f"{SCHEMA}.{service}.{digest}"


INBOX_MARK: Final = "kit_"
"""Begins the last token of an inbox whose reply subjects hold their caller's clock."""

STREAM_INBOX: Final = ".s"
"""Ends the inbox of a connection's streams, whose reply subjects hold its clock too."""

SECRET_CHARS: Final = 12
"""Random characters at the end of such a subject; the clock, in ms, and a ``-`` precede."""

# -- time

MAX_TIMEOUT: Final = 1e9
"""Longest call, in seconds; ``Kit-Timeout`` has 12 digits for its milliseconds."""

_MAX_DIGITS: Final = 12
_PLAIN_START: Final = b"NATS/1.0\r\n%b: " % TIMEOUT.encode()
_PLAIN_END: Final = b"\r\n\r\n"
_PLAIN_FROM: Final = len(_PLAIN_START)
_MAX_PLAIN: Final = 256
TRACE_FROM: Final = -74
"""Where such a trace begins: the mark, 32-16-02 hexadecimal digits, two line ends."""

IDS_FROM: Final = -56
"""Where its ids begin."""

_VALUE_FROM: Final = IDS_FROM - len(b"00-")
_VALUE_TO: Final = -len(b"\r\n\r\n")


# Header blocks in their plain form, and the milliseconds in them.  Most callers give all
# their asks the same, so it is looked up, not read.
_plain: Final[dict[bytes, int | None]] = {b"": None}


def milliseconds(seconds: float) -> int:
    """Return a time that is left in whole milliseconds: the nearest, at least 1."""
    return round(seconds * 1000) or 1


def plain_headers(timeout_ms: int) -> bytes:
    """Return the header block of most asks: the timeout, and nothing else."""
    return b"%b%d%b" % (_PLAIN_START, timeout_ms, _PLAIN_END)


def timeout_ms(message: Message) -> int | None:
    """Return the milliseconds that the caller gives, counted from now; None if unsaid.

    Marks a message as plain whose headers are none, or just what `plain_headers` writes,
    with a ``Kit-Principal`` behind it or without, and a trace, `UNKEPT` or none.

    Raises:
        InvalidArgument: ``Kit-Timeout`` is no whole number, or came twice.
    """
    block = message.header_block
    if block in _plain:
        message.is_plain = True
        return _plain[block]
    if block[TRACE_FROM:IDS_FROM] == TRACE_MARK:
        # No two are alike; what is before the trace mostly is.
        block = block[:TRACE_FROM] + _PLAIN_END
        if block in _plain:
            message.is_plain = True
            return _plain[block]
    if block.startswith(_PLAIN_START) and block.endswith(_PLAIN_END):
        digits, _, vouched = block[_PLAIN_FROM : _end_from(block)].partition(
            PRINCIPAL_MARK
        )
        is_whole = b"\r\n" not in vouched
        if is_whole and digits.isdigit() and len(digits) <= _MAX_DIGITS:
            if len(_plain) >= _MAX_PLAIN:
                _plain.clear()
                _plain[b""] = None
            message.is_plain = True
            return _plain.setdefault(block, int(digits))
    text = message.headers.single(TIMEOUT)
    if not text:
        return None
    if not is_number(text):
        raise InvalidArgument(
            f"header {TIMEOUT} must be whole milliseconds, not {text[:40]!r}",
            field=TIMEOUT,
        )
    return int(text)


def _end_from(block: bytes) -> int:
    """Return where a block's end begins, and `UNKEPT` before it."""
    return UNKEPT_FROM if block.endswith(UNKEPT_END) else -len(_PLAIN_END)


OWN: Final = (*TRACE, PRINCIPAL)
"""Headers beside the request id that each call has for itself."""

_OWN_START: Final = f"\r\n{REQUEST_ID}: ".encode()
_OWN_FIELDS: Final = re.compile(
    rf"(?:\r\n(?:{'|'.join((REQUEST_ID, *OWN))}): [ -~]*)+(?:\r\nb3: 0)?\r\n\r\n".encode()
)


def shared_fields(block: bytes) -> tuple[int, bytes] | None:
    r"""Return the time in a request's header block, and the fields that other calls bring.

    Those are all but request id, trace and principal, which each call has for itself; so
    they need not be parsed for each.

    Returns:
        Milliseconds, and lines of ``\r\nName: value``; None for a block that is plain, or
        not written as `end_call` does.
    """
    if not block.startswith(_PLAIN_START):
        return None
    end = block.find(b"\r\n", _PLAIN_FROM)
    digits = block[_PLAIN_FROM:end]
    if not digits.isdigit() or len(digits) > _MAX_DIGITS:
        return None
    at = block.find(_OWN_START, end)
    if at < 0:
        at = len(block) + (TRACE_FROM if has_trace_last(block) else _end_from(block))
        if at <= end or not block.endswith(_PLAIN_END):
            return None
    elif _OWN_FIELDS.fullmatch(block, at) is None:
        return None
    return int(digits), block[end:at]


def start_call(timeout_ms: int, shared: bytes) -> bytes:
    r"""Return the first part of the header block of a call, which other calls have too.

    Args:
        timeout_ms: Milliseconds that are left.
        shared: Lines of ``\r\nName: value``.
    """
    return b"%b%d%b%b" % (_PLAIN_START, timeout_ms, shared, _OWN_START)


def end_call(start: bytes, own: str) -> bytes:
    """Return the header block of a call; `shared_fields` takes it apart.

    Args:
        start: Its first part; see `start_call`.
        own: The request id, and behind it lines of the headers `OWN`; ASCII.
    """
    return start + own.encode() + _PLAIN_END


def is_number(text: str) -> bool:
    """Tell whether `text` is a whole number, of no more digits than any header needs."""
    return len(text) <= _MAX_DIGITS and text.isascii() and text.isdigit()


def traced(block: bytes, line: bytes) -> bytes:
    """Return a header block with a trace behind it.

    Args:
        block: The headers; b"" for none.
        line: Those of the trace, and the block's end.
    """
    return (block[:-2] if block else b"NATS/1.0\r\n") + line


def has_trace_last(block: bytes) -> bool:
    """Tell whether a trace stands last in a header block, so that few others are alike."""
    return block[TRACE_FROM:IDS_FROM] == TRACE_MARK


def last_trace(block: bytes) -> str | None:
    """Return the ``traceparent`` that stands last in a header block; None without one."""
    if block[TRACE_FROM:IDS_FROM] != TRACE_MARK:
        return None
    return block[_VALUE_FROM:_VALUE_TO].decode(errors="replace")


def with_fields(block: bytes, fields: Mapping[str, str]) -> bytes:
    """Return a header block with more fields in front."""
    rest = block.partition(b"\r\n")[2]
    if not rest or not fields:
        return block or encode_headers(fields)
    return encode_headers(fields)[:-2] + rest
