"""Receives the deliveries of one consumer, as turns of an instance's mailbox.

At most `concurrency` attempts are in the mailbox at once, so that a backlog stays in the
stream and calls to the same instance find room.  While attempts wait or run, the store is
told so, and keeps the deliveries out of others' hands.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from itertools import chain
from typing import TYPE_CHECKING, Final

from kitmsg.errors import KitError
from kitmsg.events.attempt import Attempt, Handling
from kitmsg.jetstream.messages import give_back

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from kitmsg.jetstream import Consumer, Delivery
    from kitmsg.jetstream.messages import Messages
    from kitmsg.mailbox import Mailbox

__all__ = ["Receiver"]

_log = logging.getLogger("kitmsg.events")

_MOST_AHEAD: Final = 512
_FULL_SECONDS: Final = 0.05
_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 30.0
_ALIVE: Final = 3.0  # signs of life within the time that the store waits for one


class Receiver:
    """Pulls deliveries and has them worked on.

    Args:
        handling: How each is handled.
        consumer: Makes or finds the consumer.
        mailbox: Where attempts run.
        concurrency: Attempts that are in the mailbox at once.
        ack_wait: Seconds for which the consumer keeps a delivery for us without a word.
        batch: Most deliveries for one attempt; 0 for one each, not as a batch.
        within: Longest wait for a batch to fill, in seconds.
    """

    def __init__(
        self,
        handling: Handling,
        consumer: Callable[[], Awaitable[Consumer]],
        mailbox: Mailbox,
        *,
        concurrency: int,
        ack_wait: float,
        batch: int = 0,
        within: float = 1.0,
    ) -> None:
        self.handling = handling
        self._consumer = consumer
        self._mailbox = mailbox
        self._ack_wait = ack_wait
        self._batch = batch
        self._within = within
        # One permit for each attempt that is not over: taken before it is offered, given
        # back by `over`.
        self._permits = self._concurrency = concurrency
        self._permitted = asyncio.Event()
        # `_fill` runs: what it leads to at once is done by its loop.
        self._is_filling = False
        self._attempts: set[Attempt] = set()
        # Set once, by `leave`: nothing is pulled and no attempt begins from then on.
        self.is_leaving = False
        self._task: asyncio.Task[None] | None = None
        self._alive: asyncio.TimerHandle | None = None
        self._source: Consumer | None = None
        self._looking: asyncio.Task[None] | None = None
        # Of a batch, what waits for a permit: in our hands, and no attempt yet.
        self._groups: deque[list[Delivery]] = deque()
        # None before the first is pulled.
        self._messages: Messages | None = None

    @property
    def running(self) -> int:
        """Attempts that wait or run."""
        return len(self._attempts)

    async def start(self) -> None:
        """Find the consumer, and begin.

        Raises:
            KitError: The stream or the consumer cannot be had.
        """
        consumer = await self._consumer()
        self._task = asyncio.create_task(self._receive(consumer))

    async def leave(self) -> None:
        """Pull no more, and give back what no attempt was begun on; attempts run on."""
        self.is_leaving = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        while self._groups:
            give_back(self._groups.popleft())

    def stop(self) -> None:
        """Give back what is left; after the mailbox has stopped."""
        for attempt in tuple(self._attempts):
            attempt.give_back()
        if self._alive is not None:
            self._alive.cancel()
            self._alive = None
        if self._looking is not None:
            self._looking.cancel()

    async def _receive(self, consumer: Consumer) -> None:
        """Pull until told to leave; a consumer that is lost is asked for again."""
        wait = _FIRST_WAIT
        while True:
            self._source = consumer
            messages = self._messages = self._pulled(consumer)
            try:
                async with messages:
                    if self._batch:
                        await self._receive_batches(messages)
                    else:
                        await messages.hand(self._fill)
            except KitError as error:
                if messages.count:
                    wait = _FIRST_WAIT
                _log.warning(
                    "%s receives nothing: %s; it is tried again in %.1f s",
                    self.handling.name,
                    error,
                    wait,
                )
            await asyncio.sleep(wait)
            wait = min(_LONGEST_WAIT, wait * 2)
            with contextlib.suppress(KitError):  # said in the next round
                consumer = await self._consumer()

    def _pulled(self, consumer: Consumer) -> Messages:
        """Return messages; as many are pulled ahead as are worked on at once, or quickly."""
        buffer = max(2, self._concurrency * max(1, self._batch))
        return consumer.messages(buffer=buffer, most=_MOST_AHEAD)

    def _fill(self) -> None:
        """Begin with what waits, as far as there are permits.  Hot path."""
        messages = self._messages
        if messages is None or self._is_filling or self.is_leaving:
            return
        self._is_filling = True
        try:
            while self._permits and (delivery := messages.pop()) is not None:
                self._permits -= 1
                attempt = Attempt(self.handling, (delivery,), self)
                self._attempts.add(attempt)
                if self._alive is None:
                    self._later()
                if not self._mailbox.offer(attempt):
                    self._offer_later(attempt)
        finally:
            self._is_filling = False

    async def _receive_batches(self, messages: Messages) -> None:
        """Begin with deliveries in groups, each with a permit."""
        if self._alive is None:
            self._later()  # a batch may take long to gather
        while True:
            await self._permit()
            try:
                found = await messages.take(self._batch, self._within)
            finally:
                self._permits += 1
            if not found:
                return
            # What failed before is worked on alone, so that it fails alone.
            again = [d for d in found if d.deliveries > 1]
            first = [d for d in found if d.deliveries == 1]
            self._groups.extend([first] if first else [])
            self._groups.extend([one] for one in again)
            while self._groups:
                await self._permit()
                attempt = Attempt(self.handling, self._groups.popleft(), self)
                self._attempts.add(attempt)
                self._again(attempt)

    async def _permit(self) -> None:
        while not self._permits:
            self._permitted.clear()
            await self._permitted.wait()
        self._permits -= 1

    def _offer_later(self, attempt: Attempt) -> None:
        """Offer once more what a full mailbox did not take."""
        asyncio.get_running_loop().call_later(_FULL_SECONDS, self._again, attempt)

    def _again(self, attempt: Attempt) -> None:
        if self.is_leaving:
            attempt.give_back()
        elif not self._mailbox.offer(attempt):
            self._offer_later(attempt)

    def over(self, attempt: Attempt) -> None:
        """Give its permit to the next one.  See `Owner`."""
        self._attempts.remove(attempt)
        self._permits += 1
        if self._batch:
            self._permitted.set()
        else:
            self._fill()

    def _later(self) -> None:
        loop = asyncio.get_running_loop()
        self._alive = loop.call_later(self._ack_wait / _ALIVE, self._say_alive)

    def _say_alive(self) -> None:
        """Tell the store of everything that waits or runs here: it is in our hands."""
        self._alive = None
        if not self._attempts and (self.is_leaving or not self._batch):
            return
        if self._messages is not None:
            self._messages.in_progress()
        attempts = (attempt.deliveries for attempt in self._attempts)
        for delivery in chain.from_iterable((*attempts, *self._groups)):
            with contextlib.suppress(KitError):  # it comes again then
                delivery.in_progress()
        # The last delivery may be long ago.
        self._looking = asyncio.ensure_future(self._look())
        self._later()

    async def _look(self) -> None:
        """Note how many wait in the stream, behind what is worked on."""
        measures, source = self.handling.measures, self._source
        if measures is not None and source is not None:
            with contextlib.suppress(KitError):
                measures.waits((await source.info()).pending)
