"""Publishing into streams: one message, many at once, or a batch that is stored as one.

A message with an id is sent again when its acknowledgement does not come, for the id makes
sure that it is stored once (in the stream's duplicate window).

Hot path: `_Window` handles each of many messages without a task or a future of its own.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Final

from kitmsg.errors import (
    DeadlineExceeded,
    Disconnected,
    InvalidArgument,
    KitError,
    ResourceExhausted,
    Unavailable,
)
from kitmsg.jetstream.api import forbidden, pub_ack, raise_error
from kitmsg.jetstream.outgoing import header_block
from kitmsg.jetstream.source import watch_denials
from kitmsg.wire import Js

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kitmsg.bus import Bus
    from kitmsg.jetstream.api import Api
    from kitmsg.jetstream.levels import Levels
    from kitmsg.jetstream.outgoing import Outgoing, PubAck
    from kitmsg.message import Message

__all__ = ["Publisher"]

_ATTEMPT: Final = 2.0  # seconds for the first answer, where it may be sent again
_MOST_BATCH: Final = 1000  # NATS ADR-50
_NO_RESPONDERS: Final = 503
_LEADERLESS: Final = 0.25
_LAST_ATTEMPT: Final = 0.05


class Publisher:
    """Publishes through one API.

    Args:
        api: The server's.
        levels: What the server can do.
    """

    def __init__(self, api: Api, levels: Levels) -> None:
        self._api = api
        self._levels = levels

    async def publish_batch(
        self, messages: Sequence[Outgoing], timeout: float
    ) -> PubAck:
        """Store all of the messages or none.  See `JetStream`."""
        if not 1 <= len(messages) <= _MOST_BATCH:
            raise InvalidArgument(
                f"a batch has 1 to {_MOST_BATCH} messages, not {len(messages)}"
            )
        await self._levels.need(2, "a batch that is stored as one")
        batch, bus = secrets.token_hex(16), self._api.bus
        last = len(messages)
        for number, message in enumerate(messages, 1):
            fields = {Js.BATCH_ID: batch, Js.BATCH_SEQUENCE: str(number)}
            if number == last:
                fields[Js.BATCH_COMMIT] = "1"
            block = header_block(message, fields)
            sent = message.subject, message.data, block, _missing(message.subject)
            if number == last:
                return await self._api.put(*sent, timeout)
            if number == 1:  # whose answer tells whether the batch was begun
                reply = await self._api.request(*sent, timeout=timeout)
                if reply:
                    raise_error(reply, message.subject)
            else:
                bus.publish(message.subject, message.data, "", block)
        raise AssertionError

    async def publish_many(
        self, messages: Iterable[Outgoing], window: int, timeout: float
    ) -> list[PubAck]:
        """Store messages, each by itself.  See `JetStream`."""
        if window < 1:
            raise InvalidArgument(f"window must be 1 or more, not {window}")
        return await _Window(self._api, self, window, timeout).run(iter(messages))

    async def check(self, message: Outgoing) -> None:
        """Return if the server can do what a message wants."""
        if message.schedule is not None or message.ttl is not None:
            await self._need(message)

    async def send(
        self, message: Outgoing, timeout: float, *, is_sent: bool = False
    ) -> PubAck:
        """Send until there is an answer, or time is up.

        Args:
            message: The message; one without an id is sent again only where it is certain
                that no stream took it.
            timeout: Longest time for all, in seconds.
            is_sent: Whether it was sent before.
        """
        block = header_block(message)
        loop = asyncio.get_running_loop()
        ends = loop.time() + timeout
        wait = min(_ATTEMPT, timeout) if message.message_id else timeout
        subject, missing = message.subject, _missing(message.subject)
        while True:
            try:
                return await self._api.put(subject, message.data, block, missing, wait)
            except Disconnected as error:
                is_sent = is_sent or error.sent
                if not message.message_id or not is_sent:
                    raise
                await self._connected(ends - loop.time())
            except DeadlineExceeded:
                if not message.message_id or loop.time() >= ends:
                    raise
                is_sent = True
            except Unavailable:
                if loop.time() >= ends or not await self._has_taker(subject):
                    raise
                await asyncio.sleep(_LEADERLESS)
            left = max(ends - loop.time(), 0.0)
            wait = min(2 * wait, left) or _LAST_ATTEMPT

    async def _has_taker(self, subject: str) -> bool:
        """Tell whether a stream takes `subject`, though maybe it has no leader now."""
        try:
            found = await self._api.ask("STREAM.NAMES", {"subject": subject})
        except (Unavailable, DeadlineExceeded):
            return True  # who knows
        except KitError:
            return False
        return bool(found.get("streams"))

    async def _connected(self, within: float) -> None:
        """Wait until there is a connection, at most so many seconds."""
        bus = self._api.bus
        if bus.is_connected:
            return
        up = asyncio.Event()
        undo = bus.watch(lambda is_up: up.set() if is_up else None)
        try:
            async with asyncio.timeout(within):
                await up.wait()
        except TimeoutError:
            raise Disconnected("not connected to the bus", sent=True) from None
        finally:
            undo()

    async def _need(self, message: Outgoing) -> None:
        if message.schedule is not None:
            is_once = message.schedule.rule.startswith("@at ")
            what = "a schedule" if is_once else "a schedule that repeats"
            await self._levels.need(2 if is_once else 4, what)
        elif message.ttl is not None:
            await self._levels.need(1, "a message with a time to live")


class _Window:
    """Many messages, of which at most so many wait for their acknowledgement.

    Args:
        api: The server's.
        publisher: Sends single messages again.
        size: Most messages that wait.
        timeout: Longest silence of the store, in seconds.
    """

    # Invariants: message `i` has the reply subject `{_prefix}{i}`, and `_acks[i]` is None
    # until its answer came.  It is in `_sent` until then, or in `_untaken` when no stream
    # took it, to be sent again.

    def __init__(
        self, api: Api, publisher: Publisher, size: int, timeout: float
    ) -> None:
        self._bus = api.bus
        self._publisher = publisher
        self._size = size
        self._timeout = timeout
        self._prefix = f"{self._bus.inbox}js.{secrets.token_urlsafe(12)}."
        self._number_at = len(self._prefix)
        self._sent: dict[int, Outgoing] = {}
        self._untaken: dict[int, Outgoing] = {}
        self._acks: list[PubAck | None] = []
        self._failed: KitError | None = None
        self._is_lost = False
        self._moved = asyncio.Event()
        self._wanted = 0  # `_moved` is set when no more than so many wait

    async def run(self, messages: Iterator[Outgoing]) -> list[PubAck]:
        """Send them all and return their acknowledgements, in order."""
        subscription = self._bus.subscribe(f"{self._prefix}*", self._take)
        undo = self._bus.watch(self._connection_changed)
        watch_denials(self._bus, self)
        try:
            for message in messages:
                await self._publisher.check(message)
                await self._send(message)
                if self._failed is not None:
                    break
            await self._room(0)
        finally:
            undo()
            subscription.unsubscribe()
        if self._failed is not None:
            raise self._failed
        return [ack for ack in self._acks if ack is not None]

    async def _send(self, message: Outgoing) -> None:
        if len(self._sent) >= self._size or self._untaken:
            await self._room(self._size // 2)
        number = len(self._acks)
        reply, block = f"{self._prefix}{number}", header_block(message)
        try:
            self._bus.publish(message.subject, message.data, reply, block)
        except ResourceExhausted:
            if not self._sent:
                raise
            await self._room(0)
            self._bus.publish(message.subject, message.data, reply, block)
        except Disconnected:
            if not self._sent:
                raise
            await self._room(0)
            self._acks.append(await self._publisher.send(message, self._timeout))
            return
        self._sent[number] = message
        self._acks.append(None)

    async def _room(self, most: int) -> None:
        """Return when no more than `most` messages wait."""
        while len(self._sent) > most or self._untaken:
            before, self._wanted = len(self._sent), most
            self._moved.clear()
            if not self._is_lost and not self._untaken:
                try:
                    async with asyncio.timeout(self._timeout):
                        await self._moved.wait()
                except TimeoutError:
                    self._is_lost = len(self._sent) == before
            if self._is_lost or self._untaken:
                await self._send_again()

    async def _send_again(self) -> None:
        """Send one by one what was lost, if its id allows it, and what nobody took."""
        lost = self._sent if self._is_lost else {}
        self._is_lost = False
        for number in sorted({*lost, *self._untaken}):
            is_untaken = number in self._untaken
            waiting = self._untaken if is_untaken else self._sent
            message = waiting.pop(number, None)
            if message is None or self._failed is not None:
                continue  # its answer came meanwhile, or all is in vain
            if not message.message_id and not is_untaken:
                self._failed = _lost(len(self._sent) + 1, self._bus)
                continue
            try:
                self._acks[number] = await self._publisher.send(
                    message, self._timeout, is_sent=True
                )
            except KitError as error:
                self._failed = error
        if self._failed is not None:
            self._untaken.clear()

    def _take(self, message: Message) -> None:
        number = int(message.subject[self._number_at :])
        sent = self._sent.pop(number, None)
        if sent is None:
            return
        try:
            if message.header_block and message.status == _NO_RESPONDERS:
                self._untaken[number] = sent
            else:
                self._acks[number] = pub_ack(message.data, sent.subject)
        except Unavailable:  # no leader: it may be taken later
            self._untaken[number] = sent
        except KitError as error:
            self._failed = self._failed or error
        if len(self._sent) <= self._wanted or self._untaken:
            self._moved.set()

    def denied(self, subject: str) -> None:
        """Give up what the server forbids, which it answers with no acknowledgement."""
        if subject.startswith(self._prefix.lower()):
            self._failed = self._failed or forbidden(f"{self._prefix}*", "subscribe")
            self._sent.clear()
        else:
            found = [n for n, m in self._sent.items() if m.subject.lower() == subject]
            for number in found:
                message = self._sent.pop(number)
                self._failed = self._failed or forbidden(message.subject)
        self._moved.set()

    def _connection_changed(self, is_up: bool) -> None:
        if not is_up:
            self._is_lost = True
            self._moved.set()


def _lost(count: int, bus: Bus) -> KitError:
    text = f"{count} messages may be stored or not, and have no id to ask by"
    if bus.is_connected:
        return DeadlineExceeded(f"the store is silent: {text}")
    return Disconnected(f"not connected to the bus: {text}", sent=True)


def _missing(subject: str) -> str:
    return (
        f"no stream takes {subject!r}: make one with this subject, or its servers have no"
        " leader yet"
    )
