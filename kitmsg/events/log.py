"""Reads the log of an event: what is stored, in order, and what comes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from kitmsg.errors import InvalidArgument, KitError, NotFound
from kitmsg.events.envelope import Envelope, Reader
from kitmsg.events.event import Event, facts_of
from kitmsg.events.stream import PREFIX
from kitmsg.jetstream import ConsumerConfig

if TYPE_CHECKING:
    from kitmsg.jetstream import Delivery, JetStream, Stored, Stream

__all__ = ["Log"]

E = TypeVar("E", bound=Event)


class Log(Generic[E]):
    """An asynchronous iterator over the events of one class.

    Args:
        jetstream: The store.
        cls: The class.
        since: A time or a sequence to begin at; None for the first.
        where: Values of fields that are in the subject; other events are passed over.
        follow: Whether to go on, with events as they are published, at the end.

    Attributes:
        sequence: Number of the last event that was given; 0 before.
        envelope: Its attributes.

    Raises:
        InvalidArgument: From the iteration: an event does not fit the class; the message
            has its sequence, and iterating goes on behind it.
        NotFound: From the iteration: there is no stream.
    """

    def __init__(
        self,
        jetstream: JetStream,
        cls: type[E],
        *,
        since: datetime | int | None = None,
        where: Mapping[str, Any] | None = None,
        follow: bool = False,
    ) -> None:
        facts = facts_of(cls)
        self._jetstream = jetstream
        self._facts = facts
        self._reader = Reader(cls)
        self._pattern = facts.template.pattern(PREFIX, where)
        self._since = since
        self._follow = follow
        self._messages: AsyncGenerator[Stored | Delivery, None] | None = None
        self.sequence = 0
        self.envelope: Envelope | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E:
        if self._messages is None:
            self._messages = self._stored()
        message = await anext(self._messages)
        self.sequence = message.sequence
        self.envelope = Envelope.read(message.headers)
        try:
            return cast("E", self._reader.read(message.headers, message.data))
        except InvalidArgument as error:
            raise InvalidArgument(
                f"event {message.sequence} of the stream {self._facts.stream.name!r}:"
                f" {error}",
                field=error.field,
            ) from error

    async def aclose(self) -> None:
        """End it."""
        if self._messages is not None:
            await self._messages.aclose()

    async def _stored(self) -> AsyncGenerator[Stored | Delivery, None]:
        try:
            stream = await self._jetstream.stream(self._facts.stream.name)
        except NotFound as error:
            raise NotFound(
                f"no stream stores {self._facts.name!r}; make it with `kitmsg streams apply`"
            ) from error
        async for stored in stream.read(self._pattern, **self._from()):
            yield stored
        if self._follow:
            async with contextlib.aclosing(self._coming(stream)) as coming:
                async for delivery in coming:
                    yield delivery

    def _from(self) -> dict[str, Any]:
        since = self._since
        if isinstance(since, datetime):
            return {"since": since.timestamp()}
        return {} if since is None else {"sequence": since}

    async def _coming(self, stream: Stream) -> AsyncGenerator[Delivery, None]:
        """Give what is published from the last event on; each once, in order."""
        config = ConsumerConfig(
            durable=False,
            filters=(self._pattern,),
            deliver="by_start_sequence",
            start_sequence=max(self.sequence + 1, self._first()),
            ack="none",
        )
        consumer = await stream.create_consumer(config)
        try:
            async with consumer.messages() as messages:
                async for delivery in messages:
                    if delivery.sequence > self.sequence:
                        yield delivery
        finally:
            await asyncio.shield(_deleted(stream, consumer.name))

    def _first(self) -> int:
        return self._since if isinstance(self._since, int) else 1


async def _deleted(stream: Stream, name: str) -> None:
    with contextlib.suppress(KitError):  # it ends by itself
        await stream.delete_consumer(name)
