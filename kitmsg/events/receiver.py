"""Receives the deliveries of one consumer, as turns of an instance's mailbox.

At most `concurrency` attempts are in the mailbox at once, so that a backlog stays in the
stream and calls to the same instance find room.  While attempts wait or run, the store is
told so, and keeps the deliveries out of others' hands.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Final

from kitmsg.errors import KitError
from kitmsg.events.attempt import Attempt, Handling

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from kitmsg.jetstream import Consumer, Delivery
    from kitmsg.jetstream.messages import Messages
    from kitmsg.mailbox import Mailbox

__all__ = ["Receiver"]

_log = logging.getLogger("kitmsg.events")

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
        # back by `_over`.
        self._permits = asyncio.Semaphore(concurrency)
        self._concurrency = concurrency
        self._attempts: set[Attempt] = set()
        # Set once, by `leave`: nothing is pulled and no attempt begins from then on.
        self._is_leaving = False
        self._task: asyncio.Task[None] | None = None
        self._alive: asyncio.TimerHandle | None = None
        # None while nothing is pulled.
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
        self._is_leaving = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    def stop(self) -> None:
        """Give back what is left; after the mailbox has stopped."""
        for attempt in tuple(self._attempts):
            attempt.give_back()
        if self._alive is not None:
            self._alive.cancel()
            self._alive = None

    async def _receive(self, consumer: Consumer) -> None:
        """Pull until told to leave; a consumer that is lost is asked for again."""
        wait = _FIRST_WAIT
        while True:
            try:
                async with consumer.messages(buffer=self._buffer) as messages:
                    self._messages = messages
                    async for deliveries in self._batches(messages):
                        wait = _FIRST_WAIT
                        self._offer(deliveries)
            except KitError as error:
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

    @property
    def _buffer(self) -> int:
        """Deliveries that are pulled ahead: as many as are worked on at once."""
        return max(2, self._concurrency * max(1, self._batch))

    async def _batches(self, messages: Messages) -> AsyncIterator[list[Delivery]]:
        """Give deliveries in the groups that they are worked on in, each with a permit."""
        while True:
            await self._permits.acquire()
            try:
                found = await messages.take(max(1, self._batch), self._within)
            except BaseException:
                self._permits.release()
                raise
            if not found:
                self._permits.release()
                return
            # What failed before is worked on alone, so that it fails alone.
            again = [d for d in found if self._batch and d.deliveries > 1]
            first = [d for d in found if d not in again]
            groups = ([first] if first else []) + [[delivery] for delivery in again]
            for at, group in enumerate(groups):
                if at:
                    await self._permits.acquire()
                yield group

    def _offer(self, deliveries: list[Delivery]) -> None:
        attempt = Attempt(
            self.handling, deliveries, self._over, lambda: not self._is_leaving
        )
        self._attempts.add(attempt)
        if self._alive is None:
            self._later()
        if not self._mailbox.offer(attempt):
            asyncio.get_running_loop().call_later(_FULL_SECONDS, self._again, attempt)

    def _again(self, attempt: Attempt) -> None:
        """Offer once more what a full mailbox did not take."""
        if self._is_leaving:
            attempt.give_back()
        elif not self._mailbox.offer(attempt):
            asyncio.get_running_loop().call_later(_FULL_SECONDS, self._again, attempt)

    def _over(self, attempt: Attempt) -> None:
        if attempt in self._attempts:
            self._attempts.discard(attempt)
            self._permits.release()

    def _later(self) -> None:
        loop = asyncio.get_running_loop()
        self._alive = loop.call_later(self._ack_wait / _ALIVE, self._say_alive)

    def _say_alive(self) -> None:
        """Tell the store of everything that waits or runs here: it is in our hands."""
        self._alive = None
        if not self._attempts:
            return
        if self._messages is not None:
            self._messages.in_progress()
        for attempt in self._attempts:
            for delivery in attempt.deliveries:
                with contextlib.suppress(KitError):  # it comes again then
                    delivery.in_progress()
        self._later()
