"""JetStream: streams, consumers and key-value buckets, on nats-server and in memory.

    opening.py   `jetstream_of`: the store behind a bus
    client.py    streams through the JetStream API: the half that every store shares
    stream.py    `Stream`: its state, its consumers, reads without a consumer
    consumer.py  `Consumer`: a place in a stream that all who pull from it share
    messages.py  `Messages`: the pull loop
    follow.py    `Follow`: a stream read as a log
    source.py    the consumer behind a reader, as its pull loop sees it
    delivery.py  `Delivery`: a message of a consumer, and the words that answer it
    outgoing.py  messages on their way in: expectations, schedules, headers
    publisher.py publishing: one, many at once, a batch that is stored as one
    configs.py   options and states of streams and consumers; encoding.py: as JSON
    levels.py    features of a server, by the level of its API
    nats.py      key-value on nats-server, over any `Bus`
    api.py       requests to the server's JSON API, and its errors as ours
    feed.py      an ordered consumer that makes itself again; watches are made of it
    memory.py    the twin for `MemoryBus`: no server, same promises, virtual time
    twin/        a JetStream server in memory, which the twin's streams are on
    changes.py   the backlog of a watch; used by both
    checks.py    validation of names, keys, times and times to live

What every store promises, and one contract suite checks on each:

- `publish` returns when the message is stored.  A message id is stored once in the stream's
  duplicate window, and with one a message is sent again while no answer comes.
- Of those that expect the same state of a stream, one is stored.  A batch is stored whole or
  not at all.
- A consumer hands each message out until somebody acks it or gives it up, or it was delivered
  as often as may be: at least once, again after the time that was given, at once when it is
  given back.  All who pull from it share its messages.
- What was pulled and not read is given back when the reading ends.  A reader outlives the
  connection, the consumer's leader, and the consumer itself, which is made again from the
  last message that is known to be acked.
- A schedule is due never early.
- A write that returns is stored; its number, the revision, grows with every write to the
  bucket.  One that fails with `DeadlineExceeded` or `Disconnected` may be stored.
- `create` and `update` compare and set: of those that race, one wins.
- A read sees every write that returned before it began.
- A key with a time to live is gone at its end, on a server up to two seconds after; never
  before.
- A watch shows each key's last value at first, then each change; one that reads slowly
  misses values in between, never the last one.
- Where the store cannot do it there is a sentence: JetStream is off or out of reach, the
  bucket is full, the server too old, the user not allowed.

Nothing here knows of services.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from kitmsg.jetstream.changes import Changes, Entry
from kitmsg.jetstream.configs import (
    ConsumerConfig,
    ConsumerInfo,
    Storage,
    StreamConfig,
    StreamInfo,
)
from kitmsg.jetstream.consumer import Consumer
from kitmsg.jetstream.delivery import Delivery, Position, Stored
from kitmsg.jetstream.follow import Follow
from kitmsg.jetstream.messages import Messages
from kitmsg.jetstream.outgoing import Expect, Outgoing, PubAck, Schedule
from kitmsg.jetstream.stream import Stream

__all__ = [
    "KEEPS",
    "Bucket",
    "Changes",
    "Consumer",
    "ConsumerConfig",
    "ConsumerInfo",
    "Delivery",
    "Entry",
    "Expect",
    "Follow",
    "JetStream",
    "KeyValue",
    "Messages",
    "Outgoing",
    "Position",
    "PubAck",
    "Schedule",
    "Storage",
    "Stored",
    "Stream",
    "StreamConfig",
    "StreamInfo",
]

KEEPS: Final = "__kit_keeps__"
"""Attribute of a middleware: the bucket on its endpoint's bus that it reads and writes."""

_DEFAULT_TIMEOUT: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Options of a bucket that has yet to be made.

    Attributes:
        storage: Where a server keeps it.
        replicas: Servers of a cluster that keep it, 1 to 5.
        max_bytes: Most bytes in it; None for as many as the server takes.
        timeout: Longest wait for the store, in seconds.
    """

    storage: Storage = "file"
    replicas: int = 1
    max_bytes: int | None = None
    timeout: float = _DEFAULT_TIMEOUT


class KeyValue(Protocol):
    """A bucket: values by key, each with the revision of its last write.

    Keys are letters, digits and ``- _ / = .``, with no dot at an end and no two in a row.
    Everything raises `NotFound` when the bucket is gone, `Unavailable` when the store is
    out of reach, `DeadlineExceeded` when it does not answer, `InvalidArgument` for a
    malformed key, and writes `ResourceExhausted` when the bucket is full.
    """

    @property
    def name(self) -> str:
        """The bucket's name."""
        ...

    async def get(self, key: str) -> Entry:
        """Return the value of `key`.

        Raises:
            NotFound: It has none.
        """
        ...

    async def put(self, key: str, value: bytes, *, ttl: float | None = None) -> int:
        """Store `value`, whatever was there; return its revision.

        Args:
            key: The key.
            value: Its value.
            ttl: Seconds until it is gone, rounded up to whole ones; None for never.

        Raises:
            ValueError: `ttl` is not positive.
            FailedPrecondition: A bucket that somebody else made takes no `ttl`.
        """
        ...

    async def create(self, key: str, value: bytes, *, ttl: float | None = None) -> int:
        """Store `value` if there is none; return its revision.  Raises as `put`.

        Raises:
            AlreadyExists: `key` has a value.
        """
        ...

    async def update(
        self, key: str, value: bytes, revision: int, *, ttl: float | None = None
    ) -> int:
        """Store `value` if `revision` is still the last one; return the new revision.

        Raises as `put`.

        Raises:
            Aborted: Somebody else wrote it meanwhile, or it is gone.
        """
        ...

    async def delete(self, key: str, revision: int | None = None) -> None:
        """Remove `key`, if it is there; with `revision` only if it is still the last one.

        Raises:
            Aborted: Somebody else wrote it meanwhile, or it is gone.
        """
        ...

    async def keys(self, pattern: str = ">") -> list[str]:
        """Return the keys that match `pattern` (wildcards as in subjects), sorted."""
        ...

    def watch(self, pattern: str = ">") -> AbstractAsyncContextManager[Changes]:
        """Follow the keys that match `pattern`, from their present values on.

        ::

            async with bucket.watch("orders.*") as changes:
                async for entry in changes: ...
        """
        ...

    async def now(self) -> float:
        """Return the time on the store's own clock, in seconds; see `Entry.created`."""
        ...


class JetStream(Protocol):
    """The store behind one bus.

    All of it raises `Unavailable` where the store is out of reach (`Disconnected` without a
    connection), `DeadlineExceeded` where it does not answer, `FailedPrecondition` where
    JetStream is off or the server too old, `PermissionDenied` where the user may not ask.
    """

    def now(self) -> float:
        """Return the time that schedules and start times are counted in, in unix seconds.

        It is this machine's clock; in memory, one that goes with the event loop's.
        """
        ...

    async def create_stream(self, config: StreamConfig) -> Stream:
        """Make a stream, or return the one that is there with the same options.

        Raises:
            AlreadyExists: There is one of this name with other options.
            InvalidArgument: The options are malformed, or contradict each other.
            FailedPrecondition: The server cannot, or another stream takes a subject of it.
            ResourceExhausted: The server has no room for it.
        """
        ...

    async def update_stream(self, config: StreamConfig) -> Stream:
        """Change a stream to `config`.  Raises as `create_stream`.

        Raises:
            NotFound: There is none.
        """
        ...

    async def stream(self, name: str) -> Stream:
        """Return the stream `name`.

        Raises:
            NotFound: There is none.
        """
        ...

    async def streams(self, subject: str = "") -> list[StreamInfo]:
        """Return how the streams are, by name: all, or those with `subject`."""
        ...

    async def delete_stream(self, name: str) -> None:
        """Delete a stream, with its messages and consumers.

        Raises:
            NotFound: There is none.
        """
        ...

    async def publish(
        self,
        subject: str,
        data: bytes = b"",
        headers: Mapping[str, str] | bytes | None = None,
        *,
        message_id: str = "",
        expect: Expect | None = None,
        ttl: float | None = None,
        schedule: Schedule | None = None,
        timeout: float = _DEFAULT_TIMEOUT,
    ) -> PubAck:
        """Store a message; it is stored when this returns.

        With a `message_id` it is sent again while no answer comes, and stored once in the
        stream's duplicate window.  Without, one that fails with `DeadlineExceeded`, or
        `Disconnected` with ``sent``, may be stored.

        Args:
            subject: A subject of a stream.
            data: The payload.
            headers: As in `Outgoing`.
            message_id: As in `Outgoing`.
            expect: As in `Outgoing`.
            ttl: As in `Outgoing`.
            schedule: As in `Outgoing`.
            timeout: Longest time for all, in seconds.

        Raises:
            Aborted: The stream is not in the state that `expect` says.
            ResourceExhausted: The stream is full, and discards what is new.
            InvalidArgument: The subject or a header is malformed, or the message too long.
            FailedPrecondition: The stream has no times to live, or no schedules.
            Unavailable: No stream takes the subject.
        """
        ...

    async def publish_many(
        self,
        messages: Iterable[Outgoing],
        *,
        window: int = 1024,
        timeout: float = _DEFAULT_TIMEOUT,
    ) -> list[PubAck]:
        """Store messages, each by itself, and return their acknowledgements in order.

        They are stored in their order, unless some had to be sent again.  Raises as
        `publish`: the first error, when it is known of all that were sent; those behind the
        one that failed may be stored.

        Args:
            messages: The messages; read as there is room.
            window: Most of them that wait for an answer at a time.
            timeout: Longest silence of the store, in seconds.
        """
        ...

    async def publish_batch(
        self, messages: Sequence[Outgoing], *, timeout: float = _DEFAULT_TIMEOUT
    ) -> PubAck:
        """Store all of the messages or none, one behind the other.

        They are of one stream with `allow_atomic`.  Raises as `publish`.

        Args:
            messages: 1 to 1,000 of them; message ids and expectations count for each.
            timeout: Longest wait for an answer, in seconds.

        Returns:
            The acknowledgement of the last one.
        """
        ...

    async def key_value(self, name: str, bucket: Bucket | None = None) -> KeyValue:
        """Return the bucket `name`; it is made, as `bucket` says, where there is none.

        One that is there stays as it is.

        Raises:
            InvalidArgument: The name is not letters, digits, ``-`` and ``_``.
            FailedPrecondition: JetStream is off, the server is older than 2.11, or it
                cannot keep so many replicas.
            PermissionDenied: The user may not ask the store.
            Unavailable: The store is out of reach.
        """
        ...
