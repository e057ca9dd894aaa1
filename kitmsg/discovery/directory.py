"""A live list of the services on a bus, in any language, as they come and go.

kitmsg services say when they start and stop (``_kit.up.{name}``, ``_kit.down.{name}``), so
they are known at once.  Others are found by asking now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import logging
from typing import TYPE_CHECKING, Final

import msgspec

from kitmsg.discovery.subject import ServiceInfo, find_services
from kitmsg.errors import KitError, NoResponders
from kitmsg.wire import DIRECT, DOWN, UP

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.bus import Bus, Subscription
    from kitmsg.message import Message

__all__ = ["Directory"]

_log = logging.getLogger("kitmsg.discovery")

_MISSES: Final = 2  # rounds an instance may be silent in before it counts as gone


class Directory:
    """The instances that are there, by id.

    Args:
        bus: What carries the messages.
        name: Only instances of this service; "" for all.
        interval: Seconds between two rounds of asking everybody.
        on_change: Called after instances came or went.

    Attributes:
        has_heard: Whether the bus answered in a round yet: until then, that nobody is known
            says nothing.
        error: Why the last round had no answer; None if it had.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        name: str = "",
        interval: float = 2.0,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        self.bus = bus
        self.interval = interval
        self.on_change = on_change
        self.name = name
        self.has_heard = False
        self.error: KitError | None = None
        self._found: dict[str, ServiceInfo] = {}
        self._missed: dict[str, int] = {}
        self._gone: set[str] = set()
        self._subscriptions: list[Subscription] = []
        self._task: asyncio.Task[None] | None = None
        self._age = float("-inf")
        self._asking = asyncio.Lock()

    @property
    def instances(self) -> list[ServiceInfo]:
        """The instances that are known now, sorted by name and id."""
        return sorted(self._found.values(), key=lambda info: (info.name, info.id))

    async def start(self) -> None:
        """Ask once, then go on watching until `stop`."""
        subscribe = self.bus.subscribe
        self._subscriptions = [
            subscribe(f"{UP}.{self.name or '*'}", self._came),
            subscribe(f"{DOWN}.{self.name or '*'}", self._left),
        ]
        await self.refresh()
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Watch no more."""
        for subscription in self._subscriptions:
            subscription.unsubscribe()
        self._subscriptions.clear()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def refresh(self, *, timeout: float = 1.0, stall: float = 0.1) -> None:
        """Ask everybody now; while the bus does not answer the list stays as it was."""
        self._gone.clear()
        try:
            answers = await find_services(
                self.bus, self.name, timeout=timeout, stall=stall
            )
            here = {info.id for info in answers}
            if not self.has_heard or self._found.keys() - here:
                # Silence is absence only where the bus itself is heard.
                await self.bus.flush(timeout)
        except KitError as exc:
            _log.debug("discovery: %s", exc)
            self.error = exc
            return
        self.has_heard, self.error = True, None
        self._age = asyncio.get_running_loop().time()
        before = dict(self._found)
        self._found.update((i.id, i) for i in answers if i.id not in self._gone)
        for id_ in list(self._found):
            self._missed[id_] = 0 if id_ in here else self._missed.get(id_, 0) + 1
            if self._missed[id_] >= _MISSES:
                del self._found[id_], self._missed[id_]
        if self._found != before:
            self._changed()

    async def hint(self, subject: str) -> str:
        """Return what to tell a caller whose `subject` nobody serves.

        It asks around for at most 0.15 s, and not more than once a second.
        """
        async with self._asking:  # a thousand failing calls ask once
            if asyncio.get_running_loop().time() - self._age > 1.0:
                await self.refresh(timeout=0.15, stall=0.05)
        count: dict[str, int] = {}
        for info in self._found.values():
            for endpoint in info.endpoints:
                count[endpoint.subject] = count.get(endpoint.subject, 0) + 1
        if subject in count:
            return NoResponders.KNOWN
        if subject.startswith(f"{DIRECT}."):
            return "no instance with that id is there"
        near = difflib.get_close_matches(subject, count, n=1, cutoff=0.6)
        if near:
            n = count[near[0]]
            return f"did you mean {near[0]!r} ({n} instance{'s' if n > 1 else ''})?"
        return "no service on this bus has a name like it" if count else ""

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self.interval)
            await self.refresh()

    def _came(self, message: Message) -> None:
        try:
            info = msgspec.json.decode(message.data, type=ServiceInfo)
        except msgspec.DecodeError:
            _log.debug("discovery: unreadable notice on %s", message.subject)
            return
        self._missed[info.id] = 0
        if self._found.get(info.id) != info:
            self._found[info.id] = info
            self._changed()

    def _left(self, message: Message) -> None:
        id_ = message.data.decode("ascii", "replace")
        self._gone.add(id_)
        self._missed.pop(id_, None)
        if self._found.pop(id_, None) is not None:
            self._changed()

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()
