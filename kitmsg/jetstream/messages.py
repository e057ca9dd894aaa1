"""The messages of a consumer, pulled ahead of whoever reads them.

One inbox for as long as it is read; a new pull leaves when half of what was pulled is read,
so that the consumer never waits for us (NATS ADR-13, ADR-37).  Heartbeats tell that it is
there; one that is silent, lost its leader or was deleted is found again, or made again.

Hot path: `_take` and `pop` run for every message.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
from collections import deque
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Self

from kitmsg.errors import (
    Aborted,
    DeadlineExceeded,
    Disconnected,
    FailedPrecondition,
    KitError,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from kitmsg.jetstream.delivery import Delivery
from kitmsg.jetstream.encoding import NS
from kitmsg.jetstream.source import denial, pull_subject, watch_denials
from kitmsg.wire import Js

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from types import TracebackType

    from kitmsg.bus import Bus
    from kitmsg.jetstream.source import Pace, Source
    from kitmsg.message import Message

__all__ = ["DEFAULT_BUFFER", "Messages", "give_back"]

DEFAULT_BUFFER: Final = 512
"""Messages that are pulled ahead."""

_log = logging.getLogger("kitmsg.jetstream")

_HEARTBEAT: Final = 100
_BAD_REQUEST: Final = 400
_CONFLICT: Final = 409
_NO_RESPONDERS: Final = 503
_DELETED: Final = b"Consumer Deleted"
_PUSH: Final = b"push based"
_REFUSED: Final = (
    b"Exceeded MaxRe"  # MaxRequestBatch, MaxRequestExpires, MaxRequestMaxBytes
)
_SILENT_BEATS: Final = 2
_QUICK: Final = 0.02  # seconds to read half of what was pulled ahead
_SLOW: Final = 0.2
_NOTHING, _BEAT, _MESSAGE = range(3)  # what was heard of late
_BACKOFF: Final = 0.1
_MOST_BACKOFF: Final = 2.0
_GRACE: Final = 1.0  # seconds that the end of a pull may be late
_FLUSH: Final = 2.0


class Messages:
    """An async iterator over the messages of a consumer; also a context manager.

    ::

        async with consumer.messages() as messages:
            async for message in messages:
                ...
                message.ack()

    Several tasks may read it.  At its end what was pulled and not read is given back at
    once, for others.  What was read is the reader's to answer, before or after.

    Attributes:
        count: Messages that were read.
    """

    # Invariants:
    # - `_credit` is the number of messages that wait here, in `_ready`, or that the server
    #   may still send for our pulls.  It never exceeds `_buffer`, but for messages of pulls
    #   that were given up.
    # - Pulls have the subject `{_prefix}{_epoch}`; what is said of older epochs is void.
    # - While `_repair` is there, nothing pulls but it.
    # - `_buffer` is from `_least` to `_most`: more than `_least` only while messages are
    #   read quickly, so that what waits here is done in a moment.

    def __init__(
        self,
        bus: Bus,
        source: Source,
        pace: Pace,
        *,
        buffer: int = DEFAULT_BUFFER,
        most: int = 0,
        ahead: bool = True,
        gives_back: bool = True,
    ) -> None:
        self._bus = bus
        self._source = source
        self._pace = pace
        # Without signs of life nothing would tell that its reader stands still.
        self._least = buffer
        self._most = max(buffer, most) if pace.heartbeat else buffer
        self._resize(buffer)
        self._pulled_at = 0.0
        self.count = 0
        self._read_before = 0  # `count` at the last tick
        self._ahead = ahead
        self._gives_back = gives_back
        self._ready: deque[Delivery] = deque()
        # What each `take` gathers, until it returns.
        self._taking: dict[int, list[Delivery]] = {}
        self._credit = 0
        self._epoch = 0
        self._prefix = ""
        self._came = asyncio.Event()
        # Called with a message that finds none before it, instead of `_came`.
        self._on_message: Callable[[], None] | None = None
        self._error: KitError | None = None
        self._is_closed = False
        self._is_lost = False
        self._undo: list[Callable[[], None]] = []
        self._heard = _NOTHING
        self._silent = 0
        self._ticking: asyncio.TimerHandle | None = None
        self._noting: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._repair: asyncio.Task[None] | None = None
        self._backoff = _BACKOFF

    async def __aenter__(self) -> Self:
        self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delivery:
        while (delivery := self.pop()) is None:
            if self._is_closed:
                raise StopAsyncIteration
            if self._error is not None:
                raise self._error
            await self._wait()
        return delivery

    async def hand(self, on_message: Callable[[], None]) -> None:
        """Call `on_message` when one comes and none waited, until the end; `pop` gives them.

        It is called while the bus reads, so what it does is soon done, and what many
        messages lead to is written at once.  Whoever leaves some has to come for them.

        Raises:
            KitError: As the iterator; what waits then is given back.
        """
        self._on_message = on_message
        on_message()  # for what waits already
        while not self._is_closed:
            if self._error is not None:
                raise self._error
            await self._wait()

    def pop(self) -> Delivery | None:
        """Return the next message; None if none waits."""
        if not self._ready:
            return None
        delivery = self._ready.popleft()
        self.count += 1
        self._credit -= 1
        if self._credit <= self._low and self._ahead:
            self._adapt()
            self._pull()
        return delivery

    async def take(self, most: int, within: float) -> list[Delivery]:
        """Return the next messages: one at least, when there is one.

        Args:
            most: Return when there are so many.
            within: Return so many seconds after the first one came.

        Raises:
            KitError: As the iterator.
        """
        found: list[Delivery] = []
        self._taking[id(found)] = found
        try:
            found.append(await anext(self))
            async with asyncio.timeout(within):
                while len(found) < most:
                    one = self.pop()
                    found.append(await anext(self) if one is None else one)
        except (TimeoutError, StopAsyncIteration):
            pass
        except BaseException:
            give_back(found)
            raise
        finally:
            del self._taking[id(found)]
        return found

    def waiting(self) -> int:
        """Return how many messages wait here to be read."""
        return len(self._ready)

    def in_progress(self) -> None:
        """Keep what waits here out of others' hands for another while."""
        with contextlib.suppress(KitError):  # it comes again then
            for delivery in chain(self._ready, *self._taking.values()):
                delivery.in_progress()

    # -- beginning and end

    def open(self) -> None:
        """Begin to pull.  Raises `Disconnected` where the bus is closed."""
        self._prefix = f"{self._bus.inbox}js.{secrets.token_urlsafe(12)}."
        subscription = self._bus.subscribe(f"{self._prefix}*", self._take)
        self._undo = [
            subscription.unsubscribe,
            self._bus.watch(self._connection_changed),
        ]
        watch_denials(self._bus, self)
        if self._ahead:
            self._pull()
            self._tick_later()

    async def close(self) -> None:
        """Stop, and give back what was not read."""
        if self._is_closed:
            return
        self._is_closed = True
        for timer in (self._ticking, self._noting):
            if timer is not None:
                timer.cancel()
        for task in self._tasks:
            task.cancel()
        if self._gives_back:
            give_back(self._ready)
        self._ready.clear()
        self._came.set()
        while self._undo:
            self._undo.pop()()
        if not self._gives_back:
            return
        # What was on its way comes until then, and is given back as it comes.
        with contextlib.suppress(KitError):
            await self._bus.flush(_FLUSH)

    # -- pulls

    async def pull(self, count: int, expires: float) -> bool:
        """Ask for so many, once, and return when they are here or its time is up.

        Returns:
            Whether the consumer is there, as far as we know.

        Raises:
            KitError: It refuses.
        """
        missing = count - len(self._ready)
        if missing <= 0:
            return True
        self._is_lost = False
        self._send(missing, expires, beats=False)
        try:
            async with asyncio.timeout(expires + _GRACE):
                while self._credit > len(self._ready) and self._error is None:
                    await self._wait()
        except TimeoutError:
            self._void()
        error, self._error = self._error, None
        if error is not None:
            raise error
        return not self._is_lost

    def drawn(self, count: int) -> list[Delivery]:
        """Return up to `count` messages that wait."""
        found = (self.pop() for _ in range(min(count, len(self._ready))))
        return [delivery for delivery in found if delivery is not None]

    def _pull(self) -> None:
        """Ask for as many as there is room for."""
        if self._repair is None and self._buffer > self._credit:
            # Again when it is back, or has room, as the silence will tell.
            with contextlib.suppress(Disconnected, ResourceExhausted):
                self._send(self._buffer - self._credit, self._pace.expires)

    def _send(self, count: int, expires: float, *, beats: bool = True) -> None:
        body = f'{{"batch":{count}'
        if not expires:
            body += ',"no_wait":true'
        elif expires < math.inf:
            body += f',"expires":{round(expires * NS)}'
        if beats and self._pace.heartbeat:
            body += f',"idle_heartbeat":{round(self._pace.heartbeat * NS)}'
        self._bus.publish(
            pull_subject(self._source.path),
            f"{body}}}".encode(),
            f"{self._prefix}{self._epoch}",
        )
        self._credit += count

    # -- what comes

    def _take(self, message: Message) -> None:
        if not message.reply:
            self._heard = self._heard or _BEAT
            self._take_status(message)
            return
        if self._heard is not _MESSAGE:
            self._heard = _MESSAGE
            self._note_later()
        delivery = Delivery(message, self._bus)
        if self._is_closed:
            if self._gives_back:
                delivery.nak()
            return
        self._ready.append(delivery)
        if self._on_message is None:
            self._came.set()
        elif len(self._ready) == 1:
            self._on_message()

    def _adapt(self) -> None:
        """Pull more ahead, or less, by how long it took to read half of it."""
        if self._least == self._most:
            return
        now = asyncio.get_running_loop().time()
        took, self._pulled_at = now - self._pulled_at, now
        if took < _QUICK:
            self._resize(min(self._most, self._buffer * 2))
        elif took > _SLOW:
            self._resize(max(self._least, self._buffer // 2))

    def _resize(self, buffer: int) -> None:
        self._buffer = buffer
        self._low = buffer // 2

    def _shrink(self) -> None:
        """Give back what waits behind messages that nobody is done with."""
        self._resize(self._least)
        if self._credit > len(self._ready):
            return  # else it would come back, for pulls that are open
        extra = [self._ready.pop() for _ in range(len(self._ready) - self._least)]
        self._credit -= len(extra)
        give_back(reversed(extra))

    async def _wait(self) -> None:
        """Return when something came, or changed."""
        self._came.clear()
        await self._came.wait()

    def _take_status(self, message: Message) -> None:
        """Handle a word about a pull: that it ended, and why."""
        status, block = message.status, message.header_block
        is_old = message.subject != f"{self._prefix}{self._epoch}"
        if status == _HEARTBEAT or is_old or self._is_closed:
            return
        if status == _BAD_REQUEST or (
            status == _CONFLICT and (_PUSH in block or _REFUSED in block)
        ):
            self._fail(
                FailedPrecondition(
                    f"the consumer {self._source.path} refuses pulls: {_reason(block)}"
                )
            )
        elif (status == _CONFLICT and _DELETED in block) or status == _NO_RESPONDERS:
            self._mend(is_lost=True)
        else:
            left = message.headers.get(Js.PULL_MESSAGES, "")
            if status == _CONFLICT or not left.isdigit():
                self._mend(is_lost=False)
                return
            self._credit = max(len(self._ready), self._credit - int(left))
            if self._ahead and self._credit <= self._low:
                self._pull()
            self._came.set()

    def _fail(self, error: KitError) -> None:
        """End it with `error`, once all that waits is read."""
        self._error = error
        self._came.set()

    def denied(self, subject: str) -> None:
        """End it where the server forbids what it needs."""
        error = denial(subject, self._source.path, self._prefix)
        if error is not None:
            self._fail(error)

    # -- when the consumer cannot be heard

    def _connection_changed(self, is_up: bool) -> None:
        self._void()
        if is_up and self._ahead:
            self._pull()
        self._came.set()

    def _void(self) -> None:
        """Give up all pulls that are open."""
        self._epoch += 1
        self._credit = len(self._ready)

    def _mend(self, *, is_lost: bool) -> None:
        """Pull again in a while, after a look whether the consumer is there."""
        self._void()
        self._is_lost = is_lost
        self._came.set()
        if self._ahead and self._repair is None and not self._is_closed:
            self._repair = self._spawn(self._mended(is_lost=is_lost))

    async def _mended(self, *, is_lost: bool) -> None:
        try:
            while True:
                await asyncio.sleep(self._backoff)
                self._backoff = min(2 * self._backoff, _MOST_BACKOFF)
                try:
                    if is_lost:
                        await self._source.restore()
                    break
                except (Unavailable, DeadlineExceeded, Aborted) as error:
                    _log.debug("no word of consumer %s: %s", self._source.path, error)
        except KitError as error:
            self._fail(error)
        finally:
            self._repair = None
        self._void()
        self._pull()

    def _tick_later(self) -> None:
        if self._pace.heartbeat:
            loop = asyncio.get_running_loop()
            self._ticking = loop.call_later(self._pace.heartbeat, self._tick)

    def _tick(self) -> None:
        """See whether the consumer is silent, or its reader."""
        self._tick_later()
        is_more = max(self._buffer, len(self._ready)) > self._least
        if is_more and self.count == self._read_before:
            self._shrink()
        self._read_before = self.count
        if self._heard:
            self._silent, self._backoff = 0, _BACKOFF
        elif self._bus.is_connected:
            self._silent += 1
            if self._silent >= _SILENT_BEATS:
                self._silent = 0
                self._mend(is_lost=True)
        self._heard = _NOTHING

    def _note_later(self) -> None:
        """Look how far all is acked, a while after a message."""
        if self._noting is None and self._ahead:
            loop = asyncio.get_running_loop()
            self._noting = loop.call_later(self._pace.note, self._note)

    def _note(self) -> None:
        self._noting = None
        if self._heard is _MESSAGE:
            self._heard = _BEAT  # the next message begins a new while
        self._spawn(self._noted())

    async def _noted(self) -> None:
        try:
            await self._source.look()
        except NotFound:
            self._mend(is_lost=True)
        except KitError as error:
            _log.debug("no word of consumer %s: %s", self._source.path, error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def give_back(deliveries: Iterable[Delivery]) -> None:
    """Give messages back, for others; without a connection the server does it later."""
    with contextlib.suppress(KitError):
        for delivery in deliveries:
            delivery.nak()


def _reason(block: bytes) -> str:
    line = block.split(b"\r\n", 1)[0]
    return line.decode("utf-8", "replace").partition(" ")[2]
