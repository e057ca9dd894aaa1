"""A bus inside one process: the public twin of NATS, for tests and single-process use.

Same promises as `NatsBus`, held by the same contract suite.  No network, no server, no
JetStream.  Everything happens on the event loop that uses it: not for several threads.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from typing import TYPE_CHECKING, Final

from kitmsg.bus.asks import Ask, Asks, cancellations
from kitmsg.bus.checks import (
    DEFAULT_MAX_PAYLOAD,
    check_pattern,
    check_publish,
    check_queue,
)
from kitmsg.bus.inboxes import Inboxes
from kitmsg.bus.watchers import Watchers
from kitmsg.errors import Disconnected
from kitmsg.message import Message, matches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kitmsg.bus import Handler

__all__ = ["MemoryBus"]

_log = logging.getLogger("kitmsg.bus")
_NO_RESPONDERS: Final = b"NATS/1.0 503\r\n\r\n"
_INBOX: Final = "_INBOX.memory."
_TOKEN_AT: Final = len(_INBOX)
_CACHED_SUBJECTS: Final = 1024


class _Subscription:
    __slots__ = ("_bus", "handler", "queue", "subject")

    def __init__(
        self, bus: MemoryBus, subject: str, handler: Handler, queue: str
    ) -> None:
        self._bus = bus
        self.subject = subject
        self.handler = handler
        self.queue = queue

    def unsubscribe(self) -> None:
        self._bus._remove(self)  # noqa: SLF001  # one half of the bus


class _Interest:
    """The subscribers of one subject: each plain one, and one member per group."""

    __slots__ = ("groups", "plain")

    def __init__(self, subscriptions: Iterable[_Subscription]) -> None:
        self.plain: list[_Subscription] = []
        groups: dict[str, list[_Subscription]] = {}
        for subscription in subscriptions:
            queue = subscription.queue
            same = groups.setdefault(queue, []) if queue else self.plain
            same.append(subscription)
        self.groups = list(groups.values())


class MemoryBus:
    """A bus inside one process.  Needs no event loop until it is used.

    Args:
        seed: Makes the choice of a queue group's member repeatable; None for random.
        max_payload: Longest header block and payload together, in bytes.
    """

    def __init__(
        self, *, seed: int | None = None, max_payload: int = DEFAULT_MAX_PAYLOAD
    ) -> None:
        self._random = random.Random(seed)  # noqa: S311  # spreads load, hides nothing
        self._max_payload = max_payload
        self._asks = Asks()
        self._asks.on_abandoned = self._abandon
        self._exact: dict[str, list[_Subscription]] = {}
        self._wild: list[_Subscription] = []
        self._cache: dict[str, _Interest] = {}
        self._queue: deque[tuple[Handler, Message]] = deque()
        self._pumping_on: asyncio.AbstractEventLoop | None = None
        self._flushes: set[asyncio.Future[None]] = set()
        self._watchers = Watchers()
        self.inboxes = Inboxes()
        self._down = ""
        self._closed = False

    @property
    def is_connected(self) -> bool:
        """Whether a message can be sent now."""
        return not self._down

    @property
    def is_busy(self) -> bool:
        """Whether much waits to be written: here nothing does."""
        return False

    @property
    def max_payload(self) -> int:
        """Longest header block and payload together, in bytes."""
        return self._max_payload

    @property
    def inbox(self) -> str:
        """Prefix of the subjects that reach this bus alone."""
        return _INBOX

    @property
    def late_replies(self) -> int:
        """Replies that came when nobody waited for them any more."""
        return self._asks.late

    def publish(
        self, subject: str, data: bytes, reply: str = "", header_block: bytes = b""
    ) -> None:
        """Send to whoever listens; they hear of it next loop turn.  See `Bus`."""
        if self._down:
            raise Disconnected(self._down)
        check_publish(subject, reply, len(data) + len(header_block), self._max_payload)
        if not self._route(Message(subject, data, reply, header_block)) and reply:
            self._route(Message(reply, header_block=_NO_RESPONDERS))

    def respond(self, message: Message, data: bytes, header_block: bytes = b"") -> None:
        """Answer `message`.  See `Bus`."""
        self.publish(message.reply, data, "", header_block)

    def acknowledge(self, message: Message, data: bytes) -> None:
        """Answer `message` where nobody waits for it.  See `Bus`."""
        self.publish(message.reply, data)

    async def request(
        self, subject: str, data: bytes, timeout: float, header_block: bytes = b""
    ) -> Message:
        """Send and wait for one reply, at most `timeout` seconds.  See `Bus`."""
        ask = self.ask(subject, data, timeout, header_block)
        return await self._asks.reply(ask)

    def ask(
        self, subject: str, data: bytes, timeout: float, header_block: bytes = b""
    ) -> Ask:
        """Send, and return the reply to await.  See `Bus`."""
        self._asks.attend(asyncio.get_running_loop())
        ask = self._asks.open(subject, timeout)
        try:
            self.publish(subject, data, f"{_INBOX}{ask.key.decode()}", header_block)
        except BaseException as error:
            self.give_up(ask, error)
            raise
        self._asks.mark_written()
        return ask

    def give_up(self, ask: Ask, error: BaseException) -> None:
        """Wait no longer for an ask.  See `Bus`."""
        self._asks.give_up(ask, error)

    def hand(self, to: str, message: Message) -> bool:
        """Deliver `message`, its own subject kept, to those subscribed to `to`.

        As a server does with what it has stored.

        Returns:
            Whether there is anybody, and a connection to reach them.
        """
        if self._down:
            return False
        interest = self._find(to, keep=False)
        for subscription in interest.plain:
            self._enqueue(subscription.handler, message)
        return bool(interest.plain)

    def subscribe(
        self, subject: str, handler: Handler, queue: str = ""
    ) -> _Subscription:
        """Call `handler` with each message on `subject`.  See `Bus`."""
        check_pattern(subject)
        check_queue(queue)
        if self._closed:
            raise Disconnected(self._down)
        subscription = _Subscription(self, subject, handler, queue)
        if _has_wildcard(subject):
            self._wild.append(subscription)
        else:
            self._exact.setdefault(subject, []).append(subscription)
        self._cache.clear()
        return subscription

    def watch(self, on_change: Callable[[bool], None]) -> Callable[[], None]:
        """Call `on_change` with `is_connected` whenever it changes; returns an undo."""
        return self._watchers.add(on_change)

    def watch_denials(self, on_denied: Callable[[str], None]) -> None:
        """Do nothing: nothing is denied here."""

    def soon(self, callback: Callable[[], object]) -> None:
        """Call `callback` at the loop's next turn.  See `Bus`."""
        asyncio.get_running_loop().call_soon(callback)

    def stood(self, now: float) -> float:
        """Return 0.0: nothing lies here while the loop stands still."""
        return 0.0

    async def flush(self, timeout: float = 5.0) -> None:
        """Wait until all that was sent before has been delivered; takes one loop turn.

        Raises:
            Disconnected: The bus is down, or went down meanwhile.
        """
        if self._down:
            raise Disconnected(self._down)
        future = asyncio.get_running_loop().create_future()
        self._flushes.add(future)
        self._enqueue(lambda _: _done(future), Message("_"))
        try:
            await future
        finally:
            self._flushes.discard(future)

    async def close(self) -> None:
        """Deliver what is queued, end the asks that wait, and stop for good."""
        if self._closed:
            return
        if not self._down:
            await self.flush()
        self._closed = True
        self._go_down("the bus is closed")
        self._exact.clear()
        self._wild.clear()
        self._cache.clear()

    def disconnect(self) -> None:
        """For tests: lose the connection, and with it every message on its way.

        Asks in flight fail with `Disconnected`; subscriptions come back with
        `reconnect`.
        """
        if not self._down:
            self._go_down("not connected to the bus")

    def reconnect(self) -> None:
        """For tests: end what `disconnect` began; nothing lost is sent again."""
        if self._down and not self._closed:
            self._down = ""
            self._watchers.tell(not self._down)

    def _go_down(self, reason: str) -> None:
        was_up = not self._down
        self._down = reason
        self._queue.clear()
        self._asks.fail_all(reason)
        for future in self._flushes:
            if not future.done():
                future.set_exception(Disconnected(reason))
        if was_up:
            self._watchers.tell(not self._down)

    def _abandon(self, asks: list[Ask]) -> None:
        if not self._down:
            for subject, data in cancellations(asks, _INBOX):
                self.publish(subject, data)

    def _remove(self, subscription: _Subscription) -> None:
        same = self._exact.get(subscription.subject, self._wild)
        if subscription in same:
            same.remove(subscription)
            self._cache.clear()
        if not self._exact.get(subscription.subject, True):
            del self._exact[subscription.subject]

    # Routing: who gets a message is decided when it is published, as a server would.

    def _route(self, message: Message) -> bool:
        """Queue `message` for its subscribers; tell whether there was any."""
        subject = message.subject
        to_inbox = (
            subject.startswith(_INBOX)
            and subject[_TOKEN_AT : _TOKEN_AT + 1].isdecimal()
        )
        if to_inbox:
            self._enqueue(self._on_reply, message)
        keep = not subject.startswith(_INBOX)
        interest = self._cache.get(subject) or self._find(subject, keep=keep)
        for subscription in interest.plain:
            self._enqueue(subscription.handler, message)
        for group in interest.groups:
            member = group[0] if len(group) == 1 else self._random.choice(group)
            self._enqueue(member.handler, message)
        return to_inbox or bool(interest.plain or interest.groups)

    def _find(self, subject: str, *, keep: bool) -> _Interest:
        wild = [sub for sub in self._wild if matches(sub.subject, subject)]
        interest = _Interest(self._exact.get(subject, []) + wild)
        if keep:
            if len(self._cache) >= _CACHED_SUBJECTS:
                self._cache.clear()
            self._cache[subject] = interest
        return interest

    def _on_reply(self, message: Message) -> None:
        self._asks.resolve(message.subject[_TOKEN_AT:].encode(), message)

    def _enqueue(self, handler: Handler, message: Message) -> None:
        self._queue.append((handler, message))
        loop = asyncio.get_running_loop()
        if self._pumping_on is not loop:
            self._pumping_on = loop
            loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Deliver what is queued now; what that adds waits for the next turn.

        So two handlers that answer each other do not stop the loop.
        """
        for _ in range(len(self._queue)):
            if not self._queue:  # a handler called `disconnect`
                break
            handler, message = self._queue.popleft()
            try:
                handler(message)
            except Disconnected:
                _log.debug("no connection to answer %r on", message.subject)
            except Exception:  # noqa: BLE001  # logged; it harms nobody else
                _log.exception("handler of %r failed", message.subject)
        self._pumping_on = None
        if self._queue:
            loop = self._pumping_on = asyncio.get_running_loop()
            loop.call_soon(self._pump)


def _has_wildcard(subject: str) -> bool:
    tokens = subject.split(".")
    return "*" in tokens or tokens[-1] == ">"


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
