"""Registrars: announce an instance in a system of discovery, for as long as it serves.

Go kit's `sd.Registrar`, with one loop for every system: announce, renew, announce again when
the system forgot or lost us, take back.  A system is an `Entry`: four short operations.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any, Final, Protocol, TypeVar

from kitmsg.discovery.address import REGISTRARS, load_registrar, parse_address
from kitmsg.discovery.backoff import Backoff
from kitmsg.discovery.instance import Instance
from kitmsg.discovery.instancer import reason
from kitmsg.errors import KitError, Unavailable

__all__ = ["Entry", "Registrar", "registrar"]

_log = logging.getLogger("kitmsg.discovery")

T = TypeVar("T")

_FACTS: Final = ("zone", "version", "weight")
_TIMEOUT_SECONDS: Final = 5.0  # of one operation, the taking back included


class Entry(Protocol):
    """The entry of one instance in one system.  No operation retries by itself."""

    @property
    def name(self) -> str:
        """Address of the system without its secrets, and the instance, for messages."""
        ...

    @property
    def every(self) -> float:
        """Seconds between two renewals: a third of the time the system waits for one."""
        ...

    async def announce(self) -> None:
        """Write the entry, over one of the same instance that may be left."""
        ...

    async def renew(self) -> bool:
        """Say that the instance is still there; False if the entry is not."""
        ...

    async def withdraw(self) -> None:
        """Remove the entry and nothing else; no error if it is gone."""
        ...

    async def close(self) -> None:
        """End connections and threads; an operation may begin new ones."""
        ...


class Registrar:
    """Keeps an entry in its system from `start` to `stop`, whatever happens to the system.

    Args:
        entry: The entry.
        backoff: Waits between attempts; for tests.
    """

    def __init__(self, entry: Entry, *, backoff: Backoff | None = None) -> None:
        self._entry = entry
        self._backoff = backoff or Backoff()
        self._running: asyncio.Task[None] | None = None
        self._announced = asyncio.Event()
        self._error: KitError | None = None

    @property
    def name(self) -> str:
        """The entry's."""
        return self._entry.name

    @property
    def error(self) -> KitError | None:
        """Why the entry may be missing; None while the system keeps it."""
        return self._error

    async def start(self) -> None:
        """Begin to announce; returns at once, so that no system holds a service up."""
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name=f"keep {self.name}")

    async def announced(self) -> None:
        """Wait until the system has the entry."""
        await self._announced.wait()

    async def stop(self) -> None:
        """Take the entry back; within 5 s, whatever the system does.

        A drain calls it before anything is refused, so that callers have gone by then.
        """
        running, self._running = self._running, None
        if running is None:
            return
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        try:
            await _in_time(self._entry.withdraw())
        except Exception as exc:  # noqa: BLE001  its own expiry removes the entry then
            _log.warning("%s: not taken back: %s", self.name, reason(exc))
        finally:
            self._announced.clear()
            self._error = None
            await self._entry.close()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            since = None
            try:
                await _in_time(self._entry.announce())
                since = loop.time()
                self._kept()
                await self._keep()
                _log.info("%s: forgotten, so announced again", self.name)
                lasted = loop.time() - since
            except Exception as exc:  # noqa: BLE001  whatever a system does is its error
                lasted = 0.0 if since is None else loop.time() - since
                self._lost(exc)
            await asyncio.sleep(self._backoff.next(lasted))

    async def _keep(self) -> None:
        """Renew until the system has forgotten the entry."""
        while True:
            await asyncio.sleep(self._entry.every)
            if not await _in_time(self._entry.renew()):
                return

    def _kept(self) -> None:
        if self._error is not None or not self._announced.is_set():
            _log.info("%s: announced", self.name)
        self._error = None
        self._announced.set()

    def _lost(self, exc: Exception) -> None:
        if self._error is None:
            _log.warning("%s: %s", self.name, reason(exc))
        self._error = Unavailable(f"{self.name}: {reason(exc)}")
        self._error.__cause__ = exc


def registrar(address: str, instance: Instance) -> Registrar:
    """Return the registrar of an instance at an address with a scheme.

    Args:
        address: Its options ``zone``, ``version`` and ``weight`` are facts of the instance.
        instance: Announced.

    Raises:
        ValueError: The address is wrong, or its system keeps no entries.
        FailedPrecondition: The scheme needs a package that is not installed.
    """
    given = parse_address(address, REGISTRARS)
    facts: dict[str, Any] = {
        name: given.text(name) for name in _FACTS if name in given.options
    }
    if "weight" in facts:
        facts["weight"] = given.number("weight", 1.0)
    others = {n: values for n, values in given.options.items() if n not in _FACTS}
    where = replace(given, options=others)
    return Registrar(load_registrar(where).entry(where, replace(instance, **facts)))


async def _in_time(operation: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            return await operation
    except TimeoutError as exc:
        raise Unavailable(f"no answer within {_TIMEOUT_SECONDS:g} s") from exc
