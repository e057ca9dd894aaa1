"""The public keys that may vouch for principals: in files, or in a NATS key-value bucket.

Rotation has no gap: add the new public key, wait until it is there, sign with the new key,
and take the old one away when what it signed has expired.
"""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING, Final, Protocol

from kitmsg.auth.ed25519 import TrustedKey, contents, need_cryptography, read_trusted
from kitmsg.auth.recent import Recent
from kitmsg.errors import InvalidArgument, KitError
from kitmsg.filemarks import mark_of
from kitmsg.wire import kv_subject

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from kitmsg.message import Message

__all__ = [
    "Ask",
    "BucketKeys",
    "KnownKeys",
    "TrustedFile",
    "TrustedKeys",
    "trusted_keys",
]

_log = logging.getLogger("kitmsg.auth")

_LOOK_SECONDS: Final = 1.0
_KEEP_SECONDS: Final = 5.0
_ASK_SECONDS: Final = 2.0
_UNKNOWN_SECONDS: Final = 1.0
_MOST_ASKED: Final = 16  # keys that are asked for at once; forgeries name any
_KID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_BUCKET: Final = re.compile(r"[A-Za-z0-9_-]+")


class TrustedKeys(Protocol):
    """A place where trusted public keys are."""

    async def find(self, kid: str) -> TrustedKey | None:
        """Return the key with this id; None when it is not trusted (any more)."""


class Ask(Protocol):
    """`kitmsg.bus.Bus.request`."""

    def __call__(
        self, subject: str, data: bytes, timeout: float, /
    ) -> Awaitable[Message]:
        """Ask and wait for the reply."""


class KnownKeys:
    """Keys that are at hand; for tests, and for wiring by hand.

    Args:
        keys: They.
    """

    def __init__(self, *keys: TrustedKey) -> None:
        self._keys = {key.kid: key for key in keys}

    async def find(self, kid: str) -> TrustedKey | None:
        """Return a key; see `TrustedKeys`."""
        return self._keys.get(kid)


class TrustedFile:
    """The keys in a file, or in a variable of the environment; see `read_trusted`.

    A file is read again when it changes, which is seen within a second.

    Args:
        source: Path of the file, or ``env:NAME``.

    Raises:
        InvalidArgument: There are no keys in it.
        FailedPrecondition: A library is missing.
    """

    def __init__(self, source: str) -> None:
        need_cryptography()
        self._source = source
        self._mark = mark_of(self._source)
        self._keys = self._read()
        self._look_at = 0.0

    async def find(self, kid: str) -> TrustedKey | None:
        """Return a key; see `TrustedKeys`."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK_SECONDS
            self._look()
        return self._keys.get(kid)

    def _look(self) -> None:
        mark = mark_of(self._source)
        if mark == self._mark:
            return
        self._mark = mark
        try:
            self._keys = self._read()
        except InvalidArgument as exc:
            _log.warning("%s; the keys that were read before go on", exc)

    def _read(self) -> dict[str, TrustedKey]:
        data = contents(self._source, "trusted keys")
        try:
            keys = read_trusted(data)
        except (ValueError, KeyError, TypeError) as exc:
            raise InvalidArgument(f"trusted keys in {self._source}: {exc}") from exc
        if not keys:
            raise InvalidArgument(f"trusted keys in {self._source}: there are none")
        return {key.kid: key for key in keys}


class BucketKeys:
    """The keys in a key-value bucket of NATS: each under its id, as a line or a JWK.

    A key is asked for when it is first named, and again every few seconds, so that one
    that was deleted is believed no more.  Without an answer the old one goes on.

    Args:
        bucket: Its name; made with direct access, as ``nats kv add`` does.
        ask: Asks the bus.

    Raises:
        InvalidArgument: `bucket` is no name of one.
        FailedPrecondition: A library is missing.
    """

    def __init__(self, bucket: str, ask: Ask) -> None:
        need_cryptography()
        if not _BUCKET.fullmatch(bucket):
            raise InvalidArgument(f"trusted keys: {bucket!r} is no name of a bucket")
        self._bucket = bucket
        self._ask = ask
        self._found: dict[str, TrustedKey] = {}
        self._fresh: Recent[str, bool] = Recent()
        self._asking = 0

    async def find(self, kid: str) -> TrustedKey | None:
        """Return a key; see `TrustedKeys`."""
        if not _KID.fullmatch(kid) or self._asking >= _MOST_ASKED:
            return self._found.get(kid)
        if not self._fresh.get(kid):
            self._asking += 1
            try:
                await self._look(kid)
            finally:
                self._asking -= 1
        return self._found.get(kid)

    async def _look(self, kid: str) -> None:
        try:
            reply = await self._ask(kv_subject(self._bucket, kid), b"", _ASK_SECONDS)
        except KitError as exc:
            _log.warning(
                "the bucket %s of keys does not answer (nats kv add %s makes one): %s",
                self._bucket,
                self._bucket,
                exc,
            )
            self._fresh.put(kid, True, _UNKNOWN_SECONDS)
            return
        key = self._read(kid, reply)
        self._fresh.put(kid, True, _KEEP_SECONDS if key else _UNKNOWN_SECONDS)
        if key is None:
            self._found.pop(kid, None)
        else:
            self._found[kid] = key

    def _read(self, kid: str, reply: Message) -> TrustedKey | None:
        """Return the key of a reply; None for a deleted, missing or broken one."""
        if reply.status or reply.headers.get("KV-Operation") or not reply.data:
            return None
        try:
            keys = {key.kid: key for key in read_trusted(reply.data)}
        except (ValueError, KeyError, TypeError) as exc:
            _log.warning("the bucket %s: %s: %s", self._bucket, kid, exc)
            return None
        return keys.get(kid)


def trusted_keys(
    sources: Sequence[str], ask: Callable[[], Ask]
) -> tuple[TrustedKeys, ...]:
    """Return where the keys are.

    Args:
        sources: Files, variables (``env:NAME``), and buckets (``kv:NAME``).
        ask: Returns what asks the bus.

    Raises:
        InvalidArgument: There are no keys in one.
        FailedPrecondition: A library is missing.
    """
    return tuple(
        BucketKeys(source.removeprefix("kv:"), ask())
        if source.startswith("kv:")
        else TrustedFile(source)
        for source in sources
    )
