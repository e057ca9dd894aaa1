"""etcd v3: keys below a prefix, by a range and a watch from its revision; leased entries.

    etcd://10.0.0.2:2379,10.0.0.3:2379/services/payments/

Keys begin with the path, slashes at both ends included; ``prefix=`` says another.  Options:
``interval``, seconds between two looks whether the server is still there, ``timeout``, user
and password before the host, TLS.  An entry has a ``ttl`` in seconds; its key is the prefix
and the instance's address, see `kitmsg.discovery.value` for its value.

Spoken is etcd's own JSON form of its gRPC services (`grpc-gateway`, on by default).  A watch
over it is one HTTP answer that goes on.

Source: etcd's ``rpc.proto``; "etcd API" and "gRPC gateway" of its documentation.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

import msgspec

from kitmsg.bus import Bus
from kitmsg.discovery.address import TLS_OPTIONS, Address
from kitmsg.discovery.instance import Instance
from kitmsg.discovery.rest import Lines, Rest, decode
from kitmsg.discovery.value import Reader, encode
from kitmsg.errors import Unavailable

__all__ = ["EtcdEntry", "EtcdSource", "entry", "source"]

_PORT: Final = 2379
_COMMON: Final = ("prefix", "timeout", *TLS_OPTIONS)


class _Header(msgspec.Struct):
    revision: str = "0"  # 64 bits are text in JSON


class _Pair(msgspec.Struct):
    key: str
    value: str = ""
    lease: str = "0"


class _Range(msgspec.Struct):
    header: _Header
    kvs: list[_Pair] = []


class _Event(msgspec.Struct):
    kv: _Pair
    type: str = "PUT"


class _Watch(msgspec.Struct):
    header: _Header = msgspec.field(default_factory=_Header)
    canceled: bool = False
    cancel_reason: str = ""
    compact_revision: str = "0"
    events: list[_Event] = []


class _Fault(msgspec.Struct):
    message: str = ""


class _Watched(msgspec.Struct):
    result: _Watch | None = None
    error: _Fault | None = None


class _Token(msgspec.Struct):
    token: str


class _Lease(msgspec.Struct):
    ID: str
    TTL: str = "0"


class _Renewed(msgspec.Struct):
    result: _Lease | None = None


class EtcdSource:
    """Instances that keys below a prefix name.

    Args:
        address: With the scheme ``etcd``.

    Raises:
        ValueError: The address lacks the prefix, or has something etcd does not.
    """

    def __init__(self, address: Address) -> None:
        address.expect("interval", *_COMMON)
        self.name = str(address)
        self._address = address
        self._prefix = _prefix(address)
        self._interval = address.number("interval", 10.0, least=0.1)
        self._reader = Reader(self.name)
        _Etcd(address)  # says now what is wrong

    async def sets(self) -> AsyncGenerator[Sequence[Instance], None]:
        """Yield the instances after every change."""
        async with _Etcd(self._address) as etcd:
            while True:  # once more after a compaction
                entries, revision = await etcd.range(self._prefix)
                yield self._reader.read(entries)
                async with etcd.watch(self._prefix, revision + 1) as lines:
                    while True:
                        watched = await self._next(etcd, lines, revision)
                        if watched is None:
                            break
                        revision = max(revision, int(watched.header.revision))
                        if watched.events:
                            _apply(entries, watched.events)
                            yield self._reader.read(entries)

    async def _next(self, etcd: _Etcd, lines: Lines, revision: int) -> _Watch | None:
        """Return what comes next of a watch; None when it was compacted away.

        Raises:
            Unavailable: The server is silent, ended the watch, or lost its memory.
        """
        message = decode(await self._line(etcd, lines, revision), _Watched)
        if message.error is not None or message.result is None:
            said = message.error.message if message.error else "no result"
            raise Unavailable(f"it ended the watch: {said}")
        watched = message.result
        if int(watched.compact_revision):
            return None
        if watched.canceled:
            raise Unavailable(f"it ended the watch: {watched.cancel_reason}")
        return watched

    async def _line(self, etcd: _Etcd, lines: Lines, revision: int) -> bytes:
        """Return the next line; a quiet watch looks like a dead one, so etcd is asked."""
        while True:
            try:
                async with asyncio.timeout(self._interval):
                    return await lines.next()
            except TimeoutError:
                await etcd.check_revision(self._prefix, revision)


class EtcdEntry:
    """An instance as a key with a lease.

    Args:
        address: With the scheme ``etcd``.
        instance: The instance.

    Raises:
        ValueError: The address lacks the prefix, or has something etcd does not.
    """

    def __init__(self, address: Address, instance: Instance) -> None:
        address.expect("ttl", *_COMMON)
        self._ttl = max(1, round(address.number("ttl", 10.0, least=1.0)))
        self.name = f"{address} ({instance})"
        self.every = self._ttl / 3
        self._key = _prefix(address) + instance.address
        self._value = encode(instance)
        self._etcd = _Etcd(address)
        self._lease = ""

    async def announce(self) -> None:
        """Take a lease and put the key with it."""
        self._lease = ""
        self._lease = await self._etcd.grant(self._ttl)
        await self._etcd.put(self._key, self._value, self._lease)

    async def renew(self) -> bool:
        """Keep the lease alive, and see that the key still has it."""
        if not await self._etcd.keep_alive(self._lease):
            return False
        return await self._etcd.lease_of(self._key) == self._lease

    async def withdraw(self) -> None:
        """Revoke the lease: that deletes the key, unless somebody else put it since."""
        lease, self._lease = self._lease, ""
        if lease:
            await self._etcd.revoke(lease)

    async def close(self) -> None:
        """Close the connections."""
        await self._etcd.close()


class _Etcd(Rest):
    """The requests to etcd that are needed here."""

    def __init__(self, address: Address) -> None:
        timeout = address.number("timeout", 5.0, least=0.1)
        super().__init__(address, _PORT, timeout=timeout)
        self._user, self._password = address.user, address.password

    async def log_in(self) -> None:
        """Get a token, where there is a user."""
        if self._user and "Authorization" not in self.headers:
            body = {"name": self._user, "password": self._password}
            found = await self.ask(_Token, "POST", "/v3/auth/authenticate", body=body)
            self.headers["Authorization"] = found.token

    async def close(self) -> None:
        """Close the connections; the next request logs in anew."""
        self.headers.pop("Authorization", None)
        await super().close()

    async def range(self, prefix: str) -> tuple[dict[str, bytes], int]:
        """Return the values below a prefix by key, and the revision of all."""
        await self.log_in()
        body = {"key": _base64(prefix), "range_end": _base64(_end(prefix))}
        found = await self.ask(_Range, "POST", "/v3/kv/range", body=body)
        return {_text(kv.key): _bytes(kv.value) for kv in found.kvs}, int(
            found.header.revision
        )

    async def check_revision(self, prefix: str, revision: int) -> None:
        """Check that the server answers and knows at least `revision`.

        Raises:
            Unavailable: It does not, or its memory went back.
        """
        body = {"key": _base64(prefix), "keys_only": True}  # may be read as the rest
        found = await self.ask(_Range, "POST", "/v3/kv/range", body=body)
        if int(found.header.revision) < revision:
            raise Unavailable(
                f"its revision went back from {revision} to {found.header.revision}"
            )

    def watch(self, prefix: str, revision: int) -> Any:
        """Open the stream of changes since a revision."""
        create = {
            "key": _base64(prefix),
            "range_end": _base64(_end(prefix)),
            "start_revision": str(revision),
        }
        return self.stream("/v3/watch", {"create_request": create})

    async def grant(self, ttl: int) -> str:
        """Return the id of a new lease of `ttl` seconds."""
        await self.log_in()
        body = {"TTL": str(ttl)}
        return (await self.ask(_Lease, "POST", "/v3/lease/grant", body=body)).ID

    async def keep_alive(self, lease: str) -> bool:
        """Renew a lease; False if there is none."""
        body = {"ID": lease}
        path = "/v3/lease/keepalive"
        found = (await self.ask(_Renewed, "POST", path, body=body)).result
        return found is not None and int(found.TTL) > 0

    async def revoke(self, lease: str) -> None:
        """End a lease, with its keys; no error if there is none."""
        answer = await self.call("POST", "/v3/lease/revoke", body={"ID": lease})
        if b"lease not found" not in answer.data:
            self.check(answer)

    async def put(self, key: str, value: bytes, lease: str) -> None:
        """Write a key."""
        body = {"key": _base64(key), "value": _base64(value), "lease": lease}
        await self.ask(dict[str, Any], "POST", "/v3/kv/put", body=body)

    async def lease_of(self, key: str) -> str:
        """Return the lease of a key; "" if there is no such key."""
        body = {"key": _base64(key), "keys_only": True}
        found = await self.ask(_Range, "POST", "/v3/kv/range", body=body)
        return found.kvs[0].lease if found.kvs else ""


def source(address: Address, bus: Bus | None, /) -> EtcdSource:
    """Return the keys that an address means; see `InstancerKind`."""
    return EtcdSource(address)


def entry(address: Address, instance: Instance, /) -> EtcdEntry:
    """Return the entry that an address means; see `RegistrarKind`."""
    return EtcdEntry(address, instance)


def _prefix(address: Address) -> str:
    prefix = address.text("prefix") or f"/{address.path.strip('/')}/"
    if not prefix.strip("/"):
        raise address.wrong("say below which prefix: etcd://host:2379/services/pay/")
    return prefix


def _end(prefix: str) -> bytes:
    """Return the first key after all that begin with `prefix`."""
    data = prefix.encode()
    return data[:-1] + bytes([data[-1] + 1])  # UTF-8 has no byte 0xFF


def _apply(entries: dict[str, bytes], events: Sequence[_Event]) -> None:
    for event in events:
        key = _text(event.kv.key)
        if event.type == "DELETE":
            entries.pop(key, None)
        else:
            entries[key] = _bytes(event.kv.value)


def _base64(data: str | bytes) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def _bytes(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except ValueError as exc:
        raise Unavailable("its answer is not Base64") from exc


def _text(data: str) -> str:
    return _bytes(data).decode("utf-8", "backslashreplace")
