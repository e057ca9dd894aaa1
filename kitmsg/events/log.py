"""Reads the log of an event: what is stored, in order, and what comes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from kitmsg.errors import InvalidArgument, NotFound
from kitmsg.events.envelope import Envelope, Reader
from kitmsg.events.event import Event, facts_of
from kitmsg.events.stream import PREFIX

if TYPE_CHECKING:
    from kitmsg.jetstream import Delivery, JetStream, Stored

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
        if not self._follow:
            async for stored in stream.read(self._pattern, **self._from()):
                yield stored
            return
        async with stream.follow(self._pattern, **self._from()) as coming:
            async for delivery in coming:
                yield delivery

    def _from(self) -> dict[str, Any]:
        since = self._since
        if isinstance(since, datetime):
            return {"since": since.timestamp()}
        return {} if since is None else {"sequence": since}
