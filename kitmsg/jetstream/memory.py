"""JetStream inside one process: the public twin of the server's, for tests.

Same promises as on a server, held by the same contract suite; time is the event loop's,
so a time to live of a week passes in no time on a clock that jumps.  Everything happens on
the event loop that uses it: not for several threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kitmsg.errors import (
    Aborted,
    AlreadyExists,
    Disconnected,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
)
from kitmsg.jetstream.changes import Changes, Entry
from kitmsg.jetstream.checks import (
    check_bucket,
    check_key,
    check_pattern,
    whole_seconds,
)
from kitmsg.jetstream.client import Streams
from kitmsg.jetstream.source import Pace
from kitmsg.jetstream.twin.server import Twin
from kitmsg.message import matches

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kitmsg.bus import Bus
    from kitmsg.bus.memory import MemoryBus
    from kitmsg.jetstream import Bucket

__all__ = ["MemoryJetStream", "MemoryKeyValue"]

# No timer while nothing happens: a clock that jumps has nowhere to jump to, and says so.
_PACE: Final = Pace(expires=math.inf, heartbeat=0.0, note=5.0)


@dataclass(eq=False, slots=True)
class _Kept:
    """A value, and the timer that ends it."""

    entry: Entry
    timer: asyncio.TimerHandle | None = None


class MemoryJetStream(Streams):
    """The store behind one bus in memory.  See `JetStream`."""

    def __init__(self, bus: MemoryBus) -> None:
        super().__init__(bus, _PACE)
        self._bus = bus
        self._twin = Twin(bus)
        self._buckets: dict[str, MemoryKeyValue] = {}

    def now(self) -> float:
        """Return the time, in unix seconds, as it goes with the event loop's clock."""
        return self._twin.clock.now()

    async def key_value(
        self, name: str, bucket: Bucket | None = None
    ) -> MemoryKeyValue:
        """Return the bucket `name`.  See `JetStream`."""
        check_bucket(name)
        _check_connected(self._bus)
        found = self._buckets.get(name)
        if found is None:
            max_bytes = None if bucket is None else bucket.max_bytes
            found = self._buckets[name] = MemoryKeyValue(self._bus, name, max_bytes)
        return found


class MemoryKeyValue:
    """A bucket in memory.  See `KeyValue`."""

    def __init__(self, bus: Bus, name: str, max_bytes: int | None) -> None:
        self.name = name
        self._bus = bus
        self._max_bytes = max_bytes
        self._kept: dict[str, _Kept] = {}
        self._bytes = 0
        self._revision = 0
        self._watches: dict[Changes, str] = {}

    async def get(self, key: str) -> Entry:
        """Return the value of `key`.  See `KeyValue`."""
        self._check(key)
        kept = self._kept.get(key)
        if kept is None:
            raise NotFound(f"{key!r} is not in the bucket {self.name}")
        return kept.entry

    async def put(self, key: str, value: bytes, *, ttl: float | None = None) -> int:
        """Store `value`.  See `KeyValue`."""
        self._check(key)
        return self._write(key, value, ttl)

    async def create(self, key: str, value: bytes, *, ttl: float | None = None) -> int:
        """Store `value` if there is none.  See `KeyValue`."""
        self._check(key)
        if key in self._kept:
            raise AlreadyExists(f"{key!r} is in the bucket {self.name} already")
        return self._write(key, value, ttl)

    async def update(
        self, key: str, value: bytes, revision: int, *, ttl: float | None = None
    ) -> int:
        """Store `value` if `revision` is the last one.  See `KeyValue`."""
        self._check(key)
        self._check_revision(key, revision)
        return self._write(key, value, ttl)

    async def delete(self, key: str, revision: int | None = None) -> None:
        """Remove `key`.  See `KeyValue`."""
        self._check(key)
        if revision is not None:
            self._check_revision(key, revision)
        self._remove(key)

    async def keys(self, pattern: str = ">") -> list[str]:
        """Return the keys that match.  See `KeyValue`."""
        check_pattern(pattern)
        _check_connected(self._bus)
        return sorted(key for key in self._kept if matches(pattern, key))

    @contextlib.asynccontextmanager
    async def watch(self, pattern: str = ">") -> AsyncIterator[Changes]:
        """Follow keys.  See `KeyValue`."""
        check_pattern(pattern)
        _check_connected(self._bus)
        changes = Changes()
        present = [k.entry for key, k in self._kept.items() if matches(pattern, key)]
        for entry in sorted(present, key=lambda one: one.revision):
            changes.tell(entry)
        self._watches[changes] = pattern
        try:
            yield changes
        finally:
            del self._watches[changes]

    async def now(self) -> float:
        """Return the event loop's time.  See `KeyValue`."""
        _check_connected(self._bus)
        return asyncio.get_running_loop().time()

    def _check(self, key: str) -> None:
        check_key(key)
        _check_connected(self._bus)

    def _check_revision(self, key: str, revision: int) -> None:
        kept = self._kept.get(key)
        if kept is None or kept.entry.revision != revision:
            raise Aborted(
                f"{key!r} in the bucket {self.name} is no more at revision {revision}"
            )

    def _write(self, key: str, value: bytes, ttl: float | None) -> int:
        seconds = None if ttl is None else whole_seconds(ttl)
        if len(value) > self._bus.max_payload:
            raise InvalidArgument(
                f"the value of {key!r} has {len(value)} bytes,"
                f" {self._bus.max_payload} may be sent"
            )
        old = self._kept.get(key)
        grown = len(value) - (0 if old is None else len(old.entry.value))
        if self._max_bytes is not None and self._bytes + grown > self._max_bytes:
            raise ResourceExhausted(f"the bucket {self.name} is full")
        self._forget(key)
        loop = asyncio.get_running_loop()
        self._revision += 1
        entry = Entry(key, value, self._revision, loop.time())
        timer = None
        if seconds is not None:
            timer = loop.call_later(seconds, self._remove, key)
        self._kept[key] = _Kept(entry, timer)
        self._bytes += len(value)
        self._tell(entry)
        return self._revision

    def _remove(self, key: str) -> None:
        if self._forget(key):
            self._revision += 1
            now = asyncio.get_running_loop().time()
            self._tell(Entry(key, b"", self._revision, now, gone=True))

    def _forget(self, key: str) -> bool:
        kept = self._kept.pop(key, None)
        if kept is None:
            return False
        self._bytes -= len(kept.entry.value)
        if kept.timer is not None:
            kept.timer.cancel()
        return True

    def _tell(self, entry: Entry) -> None:
        for changes, pattern in self._watches.items():
            if matches(pattern, entry.key):
                changes.tell(entry)


def _check_connected(bus: Bus) -> None:
    if not bus.is_connected:
        raise Disconnected
