"""The keys of bearer tokens from a URL, cached, and followed when they change.

A key that is not known yet is looked for at once, but not more often than every few
seconds, however many tokens name it.  When the fetch fails the old keys stay.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import logging
import threading
import urllib.error
import urllib.request
from http.client import HTTPException
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from kitmsg.auth.jwt import SECRET, check_algorithms, need_jwt
from kitmsg.auth.keys import KeySet, read_jwks
from kitmsg.errors import InvalidArgument, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["UrlKeys"]

_log = logging.getLogger("kitmsg.auth")

_MAX_BYTES: Final = 1 << 20
_PART_BYTES: Final = 1 << 16


class UrlKeys:
    """The keys of a JWK Set at a URL; a `kitmsg.auth.jwt.Keys`.

    Args:
        url: ``https://...``; ``http://`` only on this machine, as who can change the
            answer can forge every token.
        algorithms: What may sign; with public keys.
        max_age: Seconds until the keys are fetched again.
        min_interval: Seconds between two fetches at least, for unknown keys and after
            failures.
        deadline: Seconds for a fetch, from the look-up of the name to the last byte.

    Attributes:
        generation: How often there were others.

    Raises:
        InvalidArgument: The URL or the algorithms do not fit.
    """

    def __init__(
        self,
        url: str,
        algorithms: Sequence[str],
        *,
        max_age: float = 300.0,
        min_interval: float = 10.0,
        deadline: float = 5.0,
    ) -> None:
        need_jwt()
        check_algorithms(algorithms)
        _check_url(url)
        if any(name in SECRET for name in algorithms):
            raise InvalidArgument(
                "keys from a URL are public ones; a shared secret (HS...) belongs in a file"
            )
        self._url = url
        self._algorithms = frozenset(algorithms)
        self._max_age = max_age
        self._min_interval = min_interval
        self._deadline = deadline
        self.generation = 0
        self._keys = KeySet(())
        self._data = b""
        self._fetched_at: float | None = None  # successfully, on the loop's clock
        self._tried_at: float | None = None
        self._fetching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Fetch the keys; a failure is logged, and tried again when they are needed."""
        await self._fetch()

    async def stop(self) -> None:
        """Give up a fetch that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._fetching

    async def find(self, kid: str | None, algorithm: str) -> Sequence[Any]:
        """Return the keys that may have signed; see `kitmsg.auth.jwt.Keys`."""
        found = self._keys.choose(kid, algorithm)
        if not found:
            await self._fetch()
            found = self._keys.choose(kid, algorithm)
            if not self._keys:
                raise Unavailable("the keys to check tokens with are not there yet")
        elif self._is_old():
            self._begin()  # what is there serves until the new ones are
        return found

    def _is_old(self) -> bool:
        at = self._fetched_at
        return at is None or asyncio.get_running_loop().time() - at > self._max_age

    async def _fetch(self) -> None:
        """Fetch, or wait for the fetch under way; nothing if the last was just now."""
        task = self._begin()
        if task is not None:
            # One caller that goes away does not end it for the others.
            await asyncio.shield(task)

    def _begin(self) -> asyncio.Task[None] | None:
        if self._fetching is not None:
            return self._fetching
        now = asyncio.get_running_loop().time()
        if self._tried_at is not None and now - self._tried_at < self._min_interval:
            return None
        self._tried_at = now
        self._fetching = asyncio.create_task(self._run())
        return self._fetching

    async def _run(self) -> None:
        try:
            async with asyncio.timeout(self._deadline):
                data = await _in_daemon(_get, self._url, self._deadline)
            keys = KeySet(read_jwks(data, self._algorithms))
        except TimeoutError:
            _log.warning(
                "cannot fetch keys from %s: it took more than %g s",
                *(self._url, self._deadline),
            )
        except (OSError, ValueError, HTTPException) as exc:
            _log.warning("cannot fetch keys from %s: %s", self._url, exc)
        else:
            if keys:
                self._keys = keys
                self.generation += data != self._data
                self._data = data
                self._fetched_at = asyncio.get_running_loop().time()
            else:
                _log.warning("no usable key at %s", self._url)
        finally:
            self._fetching = None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would lead to an address that nobody has checked."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""


_open: Final = urllib.request.build_opener(_NoRedirect).open


def _get(url: str, seconds: float) -> bytes:
    """Return what is at a URL; a server that drips is left after `seconds`."""
    until = monotonic() + seconds
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310  # checked
    data = bytearray()
    try:
        opened = _open(request, timeout=seconds)
    except urllib.error.HTTPError as exc:
        exc.close()
        raise
    with opened as response:
        while part := response.read1(_PART_BYTES):
            data += part
            if len(data) > _MAX_BYTES:
                raise ValueError(f"more than {_MAX_BYTES} bytes")
            if monotonic() > until:
                raise TimeoutError
    return bytes(data)


async def _in_daemon(work: Callable[..., bytes], *args: object) -> bytes:
    """Return what `work` returns, done in a thread that no shutdown waits for."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bytes] = loop.create_future()

    def settle(data: bytes, error: Exception | None) -> None:
        if done.done():  # nobody waits any more
            return
        if error is None:
            done.set_result(data)
        else:
            done.set_exception(error)

    def run() -> None:
        try:
            told = functools.partial(settle, work(*args), None)
        except Exception as exc:  # noqa: BLE001  # who waits gets it
            told = functools.partial(settle, b"", exc)
        with contextlib.suppress(RuntimeError):  # the loop is gone
            loop.call_soon_threadsafe(told)
        del told  # a cycle: the error, its traceback, this frame

    threading.Thread(target=run, name="jwks", daemon=True).start()
    return await done


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError as exc:
        raise InvalidArgument(f"JWKS URL {url!r}: {exc}") from exc
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and _is_here(host))
    if not host or not is_safe:
        raise InvalidArgument(
            f"JWKS URL {url!r}: write https://...; http:// goes to this machine only"
        )


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
