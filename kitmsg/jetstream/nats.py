"""JetStream on nats-server: key-value buckets as NATS ADR-8 and ADR-48 lay them out.

The bucket ``b`` is the stream ``KV_b``, the key ``k`` its subject ``$KV.b.k``, so any
client of NATS takes part.  Reads go to the stream's leader, which has every write.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from kitmsg.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    KitError,
    NotFound,
    PermissionDenied,
)
from kitmsg.jetstream.api import EXISTS, NO_MESSAGE, Api, number_of
from kitmsg.jetstream.changes import Changes, Entry
from kitmsg.jetstream.checks import (
    check_bucket,
    check_key,
    check_pattern,
    whole_seconds,
)
from kitmsg.jetstream.client import Streams
from kitmsg.jetstream.feed import Feed
from kitmsg.message import Headers
from kitmsg.wire import JS_EXPECTED, JS_MARKER, JS_TTL, KV_OPERATION, kv_stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from kitmsg.bus import Bus
    from kitmsg.jetstream import Bucket
    from kitmsg.message import Message

__all__ = ["NatsJetStream", "NatsKeyValue"]

_TIMEOUT: Final = 5.0
_NS: Final = 1_000_000_000
_TTL_LEVEL: Final = 1  # of the JetStream API; nats-server 2.11
_MARKER_SECONDS: Final = 3600  # the mark of a key that is gone stays so long
_CREATES: Final = 8  # tries of `create` where keys come and go meanwhile


class NatsJetStream(Streams):
    """The store behind one bus to a server.  See `JetStream`."""

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus)
        self._bus = bus

    async def key_value(self, name: str, bucket: Bucket | None = None) -> NatsKeyValue:
        """Return the bucket `name`.  See `JetStream`."""
        check_bucket(name)
        api = Api(self._bus, _TIMEOUT if bucket is None else bucket.timeout)
        stream = kv_stream(name)
        try:
            await api.ask(f"STREAM.INFO.{stream}")
        except NotFound:
            await _make(api, name, bucket)
        return NatsKeyValue(api, name)


async def _make(api: Api, name: str, bucket: Bucket | None) -> None:
    try:
        account = await api.ask("INFO")
    except PermissionDenied as error:
        raise PermissionDenied(
            f"there is no bucket {name}, and this user of the NATS server may not make it:"
            " make it as another user before"
        ) from error
    level = account.get("api", {}).get("level", 0)
    if level < _TTL_LEVEL:
        raise FailedPrecondition(
            "keys with a time to live need nats-server 2.11 or later (JetStream API"
            f" level {_TTL_LEVEL}); this server has level {level}: update it"
        )
    stream = kv_stream(name)
    config: dict[str, Any] = {
        "name": stream,
        "subjects": [f"$KV.{name}.>"],
        "max_msgs_per_subject": 1,
        "discard": "new",
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "allow_direct": True,
        "allow_msg_ttl": True,
        "subject_delete_marker_ttl": _MARKER_SECONDS * _NS,
    }
    if bucket is not None:
        config["storage"] = bucket.storage
        config["num_replicas"] = bucket.replicas
        if bucket.max_bytes is not None:
            config["max_bytes"] = bucket.max_bytes
    try:
        await api.ask(f"STREAM.CREATE.{stream}", config)
    except KitError as error:
        if number_of(error) != EXISTS:
            raise  # else somebody else was faster, with options of their own


class NatsKeyValue:
    """A bucket on a server.  See `KeyValue`."""

    def __init__(self, api: Api, name: str) -> None:
        self.name = name
        self._api = api
        self._stream = kv_stream(name)
        self._prefix = f"$KV.{name}."
        self._missing = (
            f"no stream takes the keys of the bucket {name}: it is gone, or its servers"
            " have no leader yet"
        )

    async def get(self, key: str) -> Entry:
        """Return the value of `key`.  See `KeyValue`."""
        entry = await self._last(check_key(key))
        if entry is None or entry.gone:
            raise NotFound(f"{key!r} is not in the bucket {self.name}")
        return entry

    async def put(self, key: str, value: bytes, *, ttl: float | None = None) -> int:
        """Store `value`.  See `KeyValue`."""
        return await self._write(key, value, None, ttl)

    async def create(self, key: str, value: bytes, *, ttl: float | None = None) -> int:
        """Store `value` if there is none.  See `KeyValue`."""
        revision = 0
        for _ in range(_CREATES):
            with contextlib.suppress(Aborted):
                return await self._write(key, value, revision, ttl)
            # A key that is gone leaves a mark, whose revision is the one to expect.
            entry = await self._last(key)
            if entry is not None and not entry.gone:
                break
            revision = 0 if entry is None else entry.revision
        raise AlreadyExists(f"{key!r} is in the bucket {self.name} already")

    async def update(
        self, key: str, value: bytes, revision: int, *, ttl: float | None = None
    ) -> int:
        """Store `value` if `revision` is the last one.  See `KeyValue`."""
        return await self._write(key, value, revision, ttl)

    async def delete(self, key: str, revision: int | None = None) -> None:
        """Remove `key`.  See `KeyValue`."""
        if revision is None:
            entry = await self._last(check_key(key))
            if entry is None or entry.gone:
                return
        headers = {KV_OPERATION: "DEL"}
        await self._write(key, b"", revision, _MARKER_SECONDS, headers)

    async def keys(self, pattern: str = ">") -> list[str]:
        """Return the keys that match.  See `KeyValue`."""
        found: set[str] = set()
        came: asyncio.Queue[KitError | None] = asyncio.Queue()

        def take(entry: Entry) -> None:
            if not entry.gone:
                found.add(entry.key)
            came.put_nowait(None)

        feed = self._feed(pattern, take, came.put_nowait, headers_only=True)
        pending = await feed.start()
        try:
            for _ in range(pending):
                error = await came.get()
                if error is not None:
                    raise error
        finally:
            await feed.stop()
        return sorted(found)

    @contextlib.asynccontextmanager
    async def watch(self, pattern: str = ">") -> AsyncIterator[Changes]:
        """Follow keys.  See `KeyValue`."""
        changes = Changes()
        feed = self._feed(pattern, changes.tell, changes.fail)
        await feed.start()
        try:
            yield changes
        finally:
            await feed.stop()

    async def now(self) -> float:
        """Return the leader's time.  See `KeyValue`."""
        return _seconds((await self._api.ask(f"STREAM.INFO.{self._stream}"))["ts"])

    def _feed(
        self,
        pattern: str,
        tell: Callable[[Entry], None],
        on_end: Callable[[KitError], None],
        *,
        headers_only: bool = False,
    ) -> Feed:
        def take(message: Message, sequence: int, ns: int) -> None:
            key = message.subject.removeprefix(self._prefix)
            gone = _is_gone(message.headers)
            tell(Entry(key, message.data, sequence, ns / _NS, gone))

        subjects = f"{self._prefix}{check_pattern(pattern)}"
        return Feed(
            self._api, self._stream, subjects, take, on_end, headers_only=headers_only
        )

    async def _last(self, key: str) -> Entry | None:
        """Return the last write of `key`, one that removed it too."""
        subject = f"{self._prefix}{key}"
        try:
            found = await self._api.ask(
                f"STREAM.MSG.GET.{self._stream}", {"last_by_subj": subject}
            )
        except NotFound as error:
            if number_of(error) != NO_MESSAGE:
                raise NotFound(f"the bucket {self.name} is gone") from error
            return None
        message = found["message"]
        headers = Headers.parse(base64.b64decode(message.get("hdrs", "")))
        value = base64.b64decode(message.get("data", ""))
        created = _seconds(message["time"])
        return Entry(key, value, message["seq"], created, _is_gone(headers))

    async def _write(
        self,
        key: str,
        value: bytes,
        revision: int | None,
        ttl: float | None,
        headers: dict[str, str] | None = None,
    ) -> int:
        fields = dict(headers or {})
        if revision is not None:
            fields[JS_EXPECTED] = str(revision)
        if ttl is not None:
            fields[JS_TTL] = str(whole_seconds(ttl))
        subject = f"{self._prefix}{check_key(key)}"
        try:
            return await self._api.publish(subject, value, fields, self._missing)
        except Aborted as error:
            raise Aborted(
                f"{key!r} in the bucket {self.name} is no more at revision {revision}"
            ) from error


def _is_gone(headers: Headers) -> bool:
    """Return whether a message removes its key: by a client, or at the end of its time."""
    return KV_OPERATION in headers or JS_MARKER in headers


def _seconds(text: str) -> float:
    """Return a time of the server, RFC 3339 with nanoseconds, as unix seconds."""
    return datetime.fromisoformat(text).timestamp()
