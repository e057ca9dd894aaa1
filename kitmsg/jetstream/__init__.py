"""JetStream: key-value buckets, on nats-server and in memory.

    opening.py  `jetstream_of`: the store behind a bus
    nats.py     on nats-server, over any `Bus`
    api.py      requests to the server's JSON API, and its errors as ours
    feed.py     an ordered consumer that makes itself again; watches are made of it
    memory.py   the twin for `MemoryBus`: no server, same promises, virtual time
    changes.py  the backlog of a watch; used by both
    checks.py   validation of names, keys and times to live

What every store promises, and one contract suite checks on each:

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

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

from kitmsg.jetstream.changes import Changes, Entry

__all__ = ["KEEPS", "Bucket", "Changes", "Entry", "JetStream", "KeyValue", "Storage"]

KEEPS: Final = "__kit_keeps__"
"""Attribute of a middleware: the bucket on its endpoint's bus that it reads and writes."""

Storage: TypeAlias = Literal["file", "memory"]
"""Where a server keeps what it stores."""

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
    """The store behind one bus."""

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
