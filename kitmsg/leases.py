"""A limit that a fleet shares: instances lease tokens from a key-value bucket.

The limit is one number in the bucket, GCRA's theoretical arrival time (ITU-T I.371): the
time at which the fleet's tokens are all there again.  An instance moves it, by compare and
set, by the tokens of about a tenth of a second of its own demand, and spends them without
asking.  Times are on the store's clock, so clocks of instances need not agree.

Without the store each instance has its share: the limit, divided by the members that were
seen in it last.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import secrets
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import msgspec

from kitmsg.errors import Aborted, AlreadyExists, KitError, NotFound
from kitmsg.jetstream import Bucket
from kitmsg.jetstream.opening import jetstream_of

if TYPE_CHECKING:
    from kitmsg.bus import Bus
    from kitmsg.jetstream import KeyValue

__all__ = ["LIMITS", "Lease", "Limit", "limits_of"]

_log = logging.getLogger("kitmsg.middleware.rate_limit")

LIMITS: Final = "kit-limits"
"""Bucket that limits are kept in."""

_AHEAD: Final = 0.1  # seconds of its own demand that an instance leases
_LASTS: Final = 0.2  # seconds after which what is left of a lease goes back
_JITTER: Final = 0.3  # so that those who were denied together do not come together
_MOST_JITTER: Final = 0.02  # seconds
_SLACK: Final = 1.0  # seconds that clocks may be apart
_SEEN: Final = 30.0  # seconds that a member counts after it was seen
_MOST_MEMBERS: Final = 1000
_TIMEOUT: Final = 0.5  # longest wait for the store
_SYNC: Final = 60.0  # seconds between looks at the store's clock
_TRIES: Final = 20  # lost races before it counts as a denial
_BACKOFF: Final = 1.0
_MOST_BACKOFF: Final = 30.0
_KEPT: Final = 60.0  # seconds that a limit stays in the bucket when it is full again


def limits_of(bus: Bus) -> Callable[[], Awaitable[KeyValue]]:
    """Return a function that opens the bucket of limits behind `bus`."""
    store = jetstream_of(bus)
    options = Bucket(storage="memory", timeout=_TIMEOUT)
    return lambda: store.key_value(LIMITS, options)


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """A limit of a fleet.

    Attributes:
        name: Its key in the bucket.
        per_second: Tokens a second; more than zero.
        burst: Tokens that may be taken at once after a quiet time; at least 1.
    """

    name: str
    per_second: float
    burst: float

    @property
    def interval(self) -> float:
        """Seconds from one token to the next."""
        return 1.0 / self.per_second


class _Record(msgspec.Struct, array_like=True):
    """The limit in the bucket: when all tokens are there, and when members were seen."""

    full_at: float = 0.0
    members: dict[str, float] = {}


class Lease:
    """Tokens of a limit that this instance holds.

    Args:
        limit: The limit.
        open_bucket: Opens the bucket; called again after a failure.
    """

    # Invariants: there are `_tokens` to spend until `_expires`; after that they are
    # `_unspent`, which the next request gives back.  Before `_denied_until` the store has
    # nothing for us.  At most one request is under way, `_flight`.  While `_is_cut_off`
    # the store did not answer, and is tried again at `_denied_until`.

    def __init__(
        self, limit: Limit, open_bucket: Callable[[], Awaitable[KeyValue]]
    ) -> None:
        self.limit = limit
        self.members = 1
        self.turn = asyncio.Lock()  # of calls that wait, in the order of their arrival
        self.waiting = 0
        self._open = open_bucket
        self._bucket: KeyValue | None = None
        self._me = secrets.token_hex(4)
        self._tokens = 0
        self._granted = 0
        self._unspent = 0
        self._expires = 0.0
        self._denied_until = 0.0
        self._is_cut_off = False
        self._backoff = _BACKOFF
        self._flight: asyncio.Task[None] | None = None
        self._asked = 0
        self._asked_since = 0.0
        self._demand = 0.0
        self._known: tuple[_Record, int] | None = None  # as last seen, and its revision
        self._offset = 0.0  # the store's clock less ours
        self._synced_at = -math.inf

    @property
    def is_cut_off(self) -> bool:
        """Whether the store is out of reach, and this instance's share counts."""
        return self._is_cut_off

    @property
    def is_idle(self) -> bool:
        """Whether nothing is lost with this object."""
        return self._flight is None and not self.waiting and not self._tokens

    def take(self, now: float) -> float | None:
        """Take a token.

        Returns:
            0.0 for a token, seconds until there may be one, or None: a request for some
            is under way, see `arrival`.
        """
        self._asked += 1
        if now >= self._expires and self._tokens:
            self._unspent, self._tokens = self._unspent + self._tokens, 0
        if self._tokens:
            self._tokens -= 1
            if 2 * self._tokens < self._granted and self._granted > 1:
                self._ask(now)
            return 0.0
        if now < self._denied_until:
            return self._denied_until - now
        self._ask(now)
        return None

    async def arrival(self) -> None:
        """Wait for the request that is under way, if there is one."""
        if self._flight is not None:
            await asyncio.shield(self._flight)

    def _ask(self, now: float) -> None:
        if self._flight is None and now >= self._denied_until:
            self._flight = asyncio.ensure_future(self._request())

    async def _request(self) -> None:
        clock = asyncio.get_running_loop().time
        try:
            await self._lease(clock)
        except KitError as error:
            self._lost(error, clock())
        finally:
            self._flight = None

    def _wanted(self, now: float) -> int:
        """Return the tokens of a tenth of a second at the rate of the recent past."""
        span = max(now - self._asked_since, 1e-3)
        rate = self._asked / max(span, _AHEAD / 2)
        self._demand = rate if not self._demand else (self._demand + rate) / 2
        self._asked, self._asked_since = 0, now
        most = max(1.0, self.limit.burst / 2)
        return math.ceil(max(1.0, min(most, self._demand * _AHEAD)))

    async def _lease(self, clock: Callable[[], float]) -> None:
        if self._bucket is None:
            self._bucket = await self._open()
        if clock() - self._synced_at > _SYNC:
            await self._sync(self._bucket, clock)
        wanted = self._wanted(clock())
        for _ in range(_TRIES):
            if self._known is None:
                self._known = await self._read(self._bucket)
            record, revision = self._known
            now = clock() + self._offset
            granted, next_one = self._grant(record, now, wanted)
            if not granted:
                self._denied(record, next_one, clock())
                return
            try:
                revision = await self._store(self._bucket, next_one, revision, now)
            except (Aborted, AlreadyExists):
                self._known = None
                continue
            self._known = next_one, revision
            self._received(next_one, granted, clock())
            return
        self._denied_until = clock() + random.uniform(0, _AHEAD)  # noqa: S311  # spreads

    async def _sync(self, bucket: KeyValue, clock: Callable[[], float]) -> None:
        """Compare clocks; off by no more than half of the round trip."""
        before = clock()
        theirs = await bucket.now()
        self._offset = theirs - (before + clock()) / 2
        self._synced_at = clock()

    async def _read(self, bucket: KeyValue) -> tuple[_Record, int]:
        try:
            entry = await bucket.get(self.limit.name)
        except NotFound:
            return _Record(), 0
        try:
            record = msgspec.msgpack.decode(entry.value, type=_Record)
        except msgspec.MsgspecError:
            record = _Record()  # somebody else's bytes: begin again
        return record, entry.revision

    def _grant(self, record: _Record, now: float, wanted: int) -> tuple[int, _Record]:
        """Return the tokens that are there for us, and the record without them."""
        limit = self.limit
        window = limit.burst * limit.interval
        full_at = max(record.full_at, now)
        if not full_at <= now + window + _SLACK:
            # Not of this limit: a slower one of the same name, or somebody's garbage.
            full_at = now + window - limit.interval
        full_at = max(now, full_at - self._unspent * limit.interval)
        there = math.floor((now + window - full_at) * limit.per_second + 1e-6)
        granted = max(0, min(wanted, there))  # less than none: clocks are apart
        members = {name: at for name, at in record.members.items() if now - at < _SEEN}
        if len(members) < _MOST_MEMBERS:
            members[self._me] = now
        return granted, _Record(full_at + granted * limit.interval, members)

    async def _store(
        self, bucket: KeyValue, record: _Record, revision: int, now: float
    ) -> int:
        value = msgspec.msgpack.encode(record)
        ttl = record.full_at - now + _KEPT
        if revision:
            return await bucket.update(self.limit.name, value, revision, ttl=ttl)
        return await bucket.create(self.limit.name, value, ttl=ttl)

    def _received(self, record: _Record, granted: int, now: float) -> None:
        self._unspent = 0
        self._tokens += granted
        self._granted = granted
        self._expires = now + _LASTS
        self._denied_until = 0.0
        self._answered(record)

    def _denied(self, record: _Record, after: _Record, now: float) -> None:
        """Come back when a share is there that is worth a request."""
        limit = self.limit
        worth = max(1.0, min(self._demand * _AHEAD, limit.burst / 4))
        ready = after.full_at - (limit.burst - worth) * limit.interval - self._offset
        wait = max(limit.interval / 2, ready - now)
        late = random.uniform(0, min(_MOST_JITTER, _JITTER * wait))  # noqa: S311
        self._denied_until = now + wait + late
        self._known = None
        self._answered(record)

    def _answered(self, record: _Record) -> None:
        self.members = max(1, len(record.members))
        self._backoff = _BACKOFF
        if self._is_cut_off:
            self._is_cut_off = False
            _log.info("limit %s: the store answers again", self.limit.name)

    def _lost(self, error: KitError, now: float) -> None:
        """Count on nothing but this instance's share, and try again later."""
        if not self._is_cut_off:
            self._is_cut_off = True
            share = self.limit.per_second / self.members
            _log.warning(
                "limit %s: no store, so this instance allows %.3g a second: %s",
                *(self.limit.name, share, error),
            )
        self._bucket = self._known = None
        self._synced_at = -math.inf
        self._denied_until = now + random.uniform(0.5, 1.0) * self._backoff  # noqa: S311
        self._backoff = min(_MOST_BACKOFF, 2 * self._backoff)
