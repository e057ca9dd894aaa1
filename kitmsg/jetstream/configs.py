"""Streams and consumers as values: how they are made, and how they are.

Times are unix seconds on the store's clock, durations seconds.  `None` is "no limit".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

__all__ = [
    "AckPolicy",
    "Compression",
    "ConsumerConfig",
    "ConsumerInfo",
    "DeliverPolicy",
    "Discard",
    "Retention",
    "Storage",
    "StreamConfig",
    "StreamInfo",
]

Storage: TypeAlias = Literal["file", "memory"]
"""Where a server keeps what it stores."""

Retention: TypeAlias = Literal["limits", "interest", "workqueue"]
"""When a message goes: at the limits; once each consumer, or the one consumer, acked it."""

Discard: TypeAlias = Literal["old", "new"]
"""The message that makes room in a full stream: the oldest, or the one that comes."""

Compression: TypeAlias = Literal["none", "s2"]

DeliverPolicy: TypeAlias = Literal[
    "all", "new", "last", "last_per_subject", "by_start_sequence", "by_start_time"
]
"""Where a new consumer begins."""

AckPolicy: TypeAlias = Literal["explicit", "none", "all"]
"""Whether a message is redelivered until it is acked; `all`: with all before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamConfig:
    """A stream: which subjects it keeps, for how long, and where.

    Attributes:
        name: Letters, digits, ``-`` and ``_``.
        subjects: Patterns of the subjects it takes; no other stream's may overlap.
        description: For people.
        retention: When a message goes.
        storage: Where a server keeps it.
        replicas: Servers of a cluster that keep it, 1 to 5.
        max_messages: Most messages.
        max_bytes: Most bytes, headers and subjects included.
        max_age: Seconds that a message is kept.
        max_message_bytes: Longest header block and payload together.
        max_per_subject: Most messages of one subject.
        max_consumers: Most consumers.
        discard: What happens at `max_messages` and `max_bytes`.
        discard_per_subject: Whether `max_per_subject` refuses the new one too; needs
            ``discard="new"``.
        duplicate_window: Seconds in which a message id counts once; at most `max_age`.
        compression: Of files.
        allow_direct: Whether any replica answers reads; fast, and maybe a little stale.
        allow_ttl: Whether a message may have a time to live; JetStream API level 1.
        marker_ttl: Seconds that a marker stays where the last message of a subject went by
            its age or time to live; needs `allow_ttl`.
        allow_schedules: Whether a message may be a schedule; API level 2.
        allow_atomic: Whether a batch may be stored as one; API level 2.
        allow_rollup: Whether a message may replace those before it.
        deny_delete: Whether single messages cannot be deleted.
        deny_purge: Whether it cannot be purged.
        metadata: Anything; names that begin with ``_nats`` are the server's.
    """

    name: str
    subjects: tuple[str, ...] = ()
    description: str = ""
    retention: Retention = "limits"
    storage: Storage = "file"
    replicas: int = 1
    max_messages: int | None = None
    max_bytes: int | None = None
    max_age: float | None = None
    max_message_bytes: int | None = None
    max_per_subject: int | None = None
    max_consumers: int | None = None
    discard: Discard = "old"
    discard_per_subject: bool = False
    duplicate_window: float = 120.0
    compression: Compression = "none"
    allow_direct: bool = True
    allow_ttl: bool = False
    marker_ttl: float | None = None
    allow_schedules: bool = False
    allow_atomic: bool = False
    allow_rollup: bool = False
    deny_delete: bool = False
    deny_purge: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamInfo:
    """A stream at one time.

    Attributes:
        config: As the store has it.
        created: When it was made.
        now: The store's clock when it said so.
        messages: How many it has.
        bytes: How many bytes.
        first: Sequence of its first message; of the next one where it is empty.
        last: Sequence of the last message it ever had; 0 for none.
        first_time: When the first one was stored; None where it is empty.
        last_time: When the last one was stored; None where there never was one.
        subjects: How many subjects have messages.
        consumers: How many consumers it has.
        leader: Name of the server that leads it; "" where there is no cluster.
    """

    config: StreamConfig
    created: float
    now: float
    messages: int
    bytes: int
    first: int
    last: int
    first_time: float | None
    last_time: float | None
    subjects: int
    consumers: int
    leader: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerConfig:
    """A consumer: which messages of a stream it hands out, and what happens without an ack.

    Attributes:
        name: Letters, digits, ``-`` and ``_``; "" for one that nobody else has.
        durable: Whether it stays when nobody uses it.
        description: For people.
        filters: Patterns of the subjects wanted; none for all.  They must not overlap.
        deliver: Where it begins.
        start_sequence: First sequence, with ``deliver="by_start_sequence"``.
        start_time: First time, with ``deliver="by_start_time"``.
        ack: Whether messages are acked.
        ack_wait: Seconds until a message without an ack is delivered again.
        backoff: Seconds until the second delivery, the third ...; the last one stands for
            all later ones.  Takes the place of `ack_wait`.
        max_deliver: Most deliveries of a message; it stays in the stream after that.
        max_ack_pending: Most messages handed out and not acked, over all who pull.
        headers_only: Whether payloads are left out.
        inactive_after: Seconds without anybody who pulls, after which it is deleted; None
            for never, and for 5 where it is not `durable`.
        replicas: Servers that keep it; None for as many as the stream.
        in_memory: Whether its state is in memory where the stream is in files.
        paused_until: Time until which it delivers nothing; API level 1.
        metadata: Anything.
    """

    name: str = ""
    durable: bool = True
    description: str = ""
    filters: tuple[str, ...] = ()
    deliver: DeliverPolicy = "all"
    start_sequence: int | None = None
    start_time: float | None = None
    ack: AckPolicy = "explicit"
    ack_wait: float = 30.0
    backoff: tuple[float, ...] = ()
    max_deliver: int | None = None
    max_ack_pending: int = 1000
    headers_only: bool = False
    inactive_after: float | None = None
    replicas: int | None = None
    in_memory: bool = False
    paused_until: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerInfo:
    """A consumer at one time.

    Attributes:
        stream: Name of its stream.
        config: As the store has it.
        created: When it was made.
        now: The store's clock when it said so.
        delivered: Highest sequence of the stream that was delivered.
        delivered_consumer: How many deliveries there were.
        ack_floor: Sequence of the stream up to which all is acked.
        ack_floor_consumer: Delivery up to which all is acked.
        ack_pending: Messages delivered and not acked.
        redelivered: Of those, how many were delivered more than once.
        pending: Messages not yet delivered: the lag.
        waiting: Pulls that wait.
        paused: Whether it is paused now.
        leader: Name of the server that leads it; "" where there is no cluster.
    """

    stream: str
    config: ConsumerConfig
    created: float
    now: float
    delivered: int
    delivered_consumer: int
    ack_floor: int
    ack_floor_consumer: int
    ack_pending: int
    redelivered: int
    pending: int
    waiting: int
    paused: bool = False
    leader: str = ""
