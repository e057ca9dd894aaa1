"""A live list of the services on a bus, in any language, as they come and go.

kitmsg services say when they start and stop (``_kit.up.{name}``, ``_kit.down.{name}``), so
they are known at once.  Others are found by asking now and then.

Anybody may say anything.  What is said on ``_kit.up.X`` counts for X only; nobody is gone
because somebody says so, or because a round of asking was drowned in noise, but when it
does not answer a PING of its own; and how many are listed is bounded: those who were here
stay, and of newcomers that announce themselves a bounded number counts until a round of
asking has heard them.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import logging
from collections import Counter
from typing import TYPE_CHECKING, Final

import msgspec

from kitmsg.discovery.limits import Room, why_unlisted
from kitmsg.discovery.subject import ServiceInfo, find_services, is_there, read_info
from kitmsg.errors import KitError, NoResponders
from kitmsg.wire import DIRECT, DOWN, UP

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.bus import Bus, Subscription
    from kitmsg.message import Message

__all__ = ["Directory"]

_log = logging.getLogger("kitmsg.discovery")

_MISSES: Final = 2  # rounds an instance may be silent in before it is asked by itself
_MOST_CHECKS: Final = 256  # instances that are asked at once whether they are there
_SLICE: Final = 256  # instances that are listed in one turn of the event loop
_MOST_GONE: Final = 1024


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
        self._room = Room()
        self._checks: dict[str, asyncio.Task[None]] = {}
        self._missed: dict[str, int] = {}
        self._gone: set[str] = set()
        self._subscriptions: list[Subscription] = []
        self._task: asyncio.Task[None] | None = None
        self._age = float("-inf")
        # Set when the `hint` that asks around is through; None while none does.
        self._asking: asyncio.Event | None = None
        # How many instances serve each subject; None after a change of `_found`.
        self._served: Counter[str] | None = None

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
        for check in list(self._checks.values()):
            check.cancel()

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
        self._room.renew()
        is_news = await self._list_all(answers)
        for id_ in list(self._found):
            self._missed[id_] = 0 if id_ in here else self._missed.get(id_, 0) + 1
            if self._missed[id_] >= _MISSES:
                self._check(id_)
        if self._checks:
            await asyncio.wait(list(self._checks.values()), timeout=timeout)
        if is_news:
            self._changed()

    async def _list_all(self, answers: list[ServiceInfo]) -> bool:
        """List those who answered, in slices; returns whether there is news."""
        is_news = False
        left = [info for info in answers if info.id in self._gone]
        still = await asyncio.gather(*(is_there(self.bus, info) for info in left))
        gone = {
            info.id for info, is_here in zip(left, still, strict=True) if not is_here
        }
        for at, info in enumerate(answers):
            if info.id not in gone:
                is_news |= self._list(info, is_heard=True)
            if at % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
        return is_news

    async def hint(self, subject: str) -> str:
        """Return what to tell a caller whose `subject` nobody serves.

        It asks around for at most 0.15 s, and not more than once a second.
        """
        if asyncio.get_running_loop().time() - self._age > 1.0:
            await self._ask_around()
        if self._served is None:
            self._served = Counter(
                endpoint.subject
                for info in self._found.values()
                for endpoint in info.endpoints
            )
        count = self._served
        if subject in count:
            return NoResponders.KNOWN
        if subject.startswith(f"{DIRECT}."):
            return "no instance with that id is there"
        near = difflib.get_close_matches(subject, count, n=1, cutoff=0.6)
        if near:
            n = count[near[0]]
            return f"did you mean {near[0]!r} ({n} instance{'s' if n > 1 else ''})?"
        return "no service on this bus has a name like it" if count else ""

    async def _ask_around(self) -> None:
        """Refresh the list for a hint: once for a thousand calls, which go on together."""
        if self._asking is not None:
            await self._asking.wait()
            return
        self._asking = asyncio.Event()
        try:
            await self.refresh(timeout=0.15, stall=0.05)
        finally:
            self._asking.set()
            self._asking = None

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self.interval)
            await self.refresh()

    def _came(self, message: Message) -> None:
        try:
            info = read_info(message.data)
        except msgspec.DecodeError:
            _log.debug("discovery: unreadable notice on %s", message.subject)
            return
        if message.subject != f"{UP}.{info.name}":
            self._room.refuse(f"{info.name!r} is announced on {message.subject!r}")
        elif self._list(info, is_heard=False):
            self._changed()

    def _list(self, info: ServiceInfo, *, is_heard: bool) -> bool:
        """List an instance, if there is room and its id is nobody else's.

        Args:
            info: The instance.
            is_heard: Whether it answered us; else it says so itself.

        Returns:
            Whether that is news.
        """
        known = self._found.get(info.id)
        if known == info:
            self._missed[info.id] = 0
            self._room.hear(info.id, is_heard=is_heard)
            return False
        if problem := why_unlisted(info, known):
            self._room.refuse(problem)
            return False
        if known is None and not self._room.take(info, is_heard=is_heard):
            return False
        self._missed[info.id] = 0
        self._found[info.id] = info
        self._served = None
        return True

    def _left(self, message: Message) -> None:
        id_ = message.data.decode("ascii", "replace")
        known = self._found.get(id_)
        if known is None:  # its INFO may be on its way
            self._note_gone(id_)
        elif message.subject == f"{DOWN}.{known.name}":
            self._check(id_)

    def _note_gone(self, id_: str) -> None:
        """Have a round that goes on ask an instance first, before it lists it."""
        if len(self._gone) < _MOST_GONE:
            self._gone.add(id_)

    def _check(self, id_: str) -> None:
        """Ask an instance whether it is there; it is listed no more if it is not."""
        if id_ in self._checks or len(self._checks) >= _MOST_CHECKS:
            return
        task = asyncio.get_running_loop().create_task(self._ask(self._found[id_]))
        self._checks[id_] = task
        task.add_done_callback(lambda _: self._checks.pop(id_, None))

    async def _ask(self, info: ServiceInfo) -> None:
        if await is_there(self.bus, info):
            self._missed[info.id] = 0
            return
        self._note_gone(info.id)
        self._missed.pop(info.id, None)
        self._room.leave(info.id)
        if self._found.pop(info.id, None) is not None:
            self._served = None
            self._changed()

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()
