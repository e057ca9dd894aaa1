"""A stream read as a log: its messages in order, each once, and those that come.

A consumer without acks of its own, which is made again behind the last message that was
read when one is missing, when the connection was lost, or when it is gone (NATS ADR-17).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Self

from kitmsg.errors import DeadlineExceeded, KitError, Unavailable
from kitmsg.jetstream.consumer import put_consumer
from kitmsg.jetstream.messages import Messages
from kitmsg.jetstream.source import Pace

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from kitmsg.jetstream.api import Api
    from kitmsg.jetstream.configs import ConsumerConfig
    from kitmsg.jetstream.delivery import Delivery

__all__ = ["Follow"]

_BACKOFF: Final = 0.1
_MOST_BACKOFF: Final = 2.0


class Follow:
    """An async iterator over the messages of a stream; a context manager.

    ::

        async with stream.follow("orders.>", since=yesterday) as log:
            async for message in log:
                print(message.sequence, message.position.pending)

    Nobody else's reading is changed by it.  Its messages need no answer.  One task reads it.
    """

    # Invariants: `_last` is the sequence of the last message that was read, 0 before the
    # first; `_next` the number that the next delivery of the present consumer has.

    def __init__(
        self, api: Api, stream: str, config: ConsumerConfig, pace: Pace, buffer: int
    ) -> None:
        self._api = api
        self._stream = stream
        self._config = config
        self._pace = pace
        self._buffer = buffer
        self._last = 0
        self._next = 1
        self._messages: Messages | None = None
        self._is_closed = False
        self._closing: set[asyncio.Task[None]] = set()
        self._undo: Callable[[], None] | None = None

    @property
    def path(self) -> str:
        """The stream and the present consumer, as they stand in subjects."""
        return f"{self._stream}.{self._config.name}"

    async def __aenter__(self) -> Self:
        await self._begin()
        self._undo = self._api.bus.watch(self._connection_changed)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_closed = True
        if self._undo is not None:
            self._undo()
        await self._end()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delivery:
        while not self._is_closed:
            messages = self._messages
            if messages is None:
                await self._again()
                continue
            try:
                message = await anext(messages)
            except StopAsyncIteration:
                if self._messages is messages:
                    self._messages = None
                continue
            place = message.position
            if place.consumer_sequence == self._next:
                self._next += 1
                self._last = place.sequence
                return message
            await self._end()  # some were lost on the way
        raise StopAsyncIteration

    async def look(self) -> None:
        """See whether the consumer is there; there are no acks to note."""
        await self._api.ask(f"CONSUMER.INFO.{self.path}")

    async def restore(self) -> None:
        """Begin again: the consumer cannot be heard."""
        self._give_up()

    def _connection_changed(self, is_up: bool) -> None:
        if is_up:
            self._give_up()

    def _give_up(self) -> None:
        """End the present consumer; the reader makes another."""
        if self._messages is not None:
            closing = asyncio.ensure_future(self._end())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _again(self) -> None:
        """Make another consumer, behind the last message; raises where that is in vain."""
        wait = _BACKOFF
        while not self._is_closed:
            try:
                await self._begin()
            except (Unavailable, DeadlineExceeded):
                await asyncio.sleep(wait)
                wait = min(2 * wait, _MOST_BACKOFF)
            else:
                return

    async def _begin(self) -> None:
        config = replace(self._config, name=secrets.token_hex(8))
        if self._last:
            config = replace(
                config,
                deliver="by_start_sequence",
                start_sequence=self._last + 1,
                start_time=None,
            )
        await put_consumer(self._api, self._stream, config, "create")
        self._config, self._next = config, 1
        self._messages = Messages(
            self._api.bus, self, self._pace, buffer=self._buffer, gives_back=False
        )
        self._messages.open()

    async def _end(self) -> None:
        messages, self._messages = self._messages, None
        if messages is not None:
            path = self.path
            await messages.close()
            with contextlib.suppress(KitError):
                await self._api.ask(f"CONSUMER.DELETE.{path}")
