"""The half of a kit that stores: events, tells, and the log they are read from."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from kitmsg.bus import Bus
from kitmsg.bus.memory import MemoryBus
from kitmsg.codec import JSON, Codec
from kitmsg.events.event import Event
from kitmsg.events.log import Log
from kitmsg.events.publish import PUBLISH_SECONDS, Publisher
from kitmsg.events.tells import Teller, cancel_tell
from kitmsg.jetstream.opening import jetstream_of
from kitmsg.service.declare import Service
from kitmsg.service.told import make_teller

if TYPE_CHECKING:
    from kitmsg.jetstream import JetStream

__all__ = ["Storing"]

S = TypeVar("S", bound=Service)
E = TypeVar("E", bound=Event)


class Storing:
    """Events and tells on one bus; a base of `kitmsg.service.kit.Kit`.

    Attributes:
        bus: What carries the messages.
        codec: How events travel; None for JSON.
        makes_streams: Whether streams that are missing are made.
    """

    bus: Bus
    codec: Codec | None
    makes_streams: bool

    @functools.cached_property
    def jetstream(self) -> JetStream:
        """The store behind the bus: streams, consumers, key-value buckets."""
        return jetstream_of(self.bus)

    @functools.cached_property
    def _publisher(self) -> Publisher:
        is_own = self.makes_streams or isinstance(self.bus, MemoryBus)
        return Publisher(self.jetstream, self.codec or JSON, makes_streams=is_own)

    async def publish(
        self,
        event: Event,
        *,
        id: str = "",  # noqa: A002
        timeout: float = PUBLISH_SECONDS,
    ) -> int:
        """Publish an event; returns its sequence once its stream has it.

        Args:
            event: The event.
            id: By which the stream knows it again, for two minutes unless its class says
                else: an event that is published twice is stored once.
            timeout: Longest wait for the stream's word, in seconds; in a turn, its
                deadline, if that is nearer.

        Raises:
            InvalidArgument: A field does not fit its class; nothing is stored.
            FailedPrecondition: No stream stores it.
            ResourceExhausted: The stream is full.
            Disconnected: There is no connection; nothing is stored.
            DeadlineExceeded: No word in time; it may be stored.
        """
        return await self._publisher.publish(event, id=id, timeout=timeout)

    async def publish_many(
        self, events: Iterable[Event], *, timeout: float = PUBLISH_SECONDS
    ) -> list[int]:
        """Publish events side by side; returns their sequences, in order.  As `publish`.

        One that fails fails the call; others may be stored.
        """
        return await self._publisher.publish_many(events, timeout=timeout)

    def events(
        self,
        event: type[E],
        *,
        since: datetime | int | None = None,
        where: Mapping[str, Any] | None = None,
        follow: bool = False,
    ) -> Log[E]:
        """Read the log of an event: ``async for placed in kit.events(OrderPlaced): ...``.

        Args:
            event: The class.
            since: A time or a sequence to begin at; None for the first that is stored.
            where: Values of fields that are in the subject; others are passed over.
            follow: Whether to go on at the end, with events as they are published.
        """
        return Log(self.jetstream, event, since=since, where=where, follow=follow)

    def tell(
        self,
        service: type[S],
        *,
        after: float = 0.0,
        at: datetime | None = None,
        id: str = "",  # noqa: A002
        timeout: float = PUBLISH_SECONDS,
    ) -> S:
        """Return an object with the durable endpoints of `service`, which are stored calls.

        ``await kit.tell(Mailer).send("a@b.example", "hi")`` returns once the stream has
        it; it is carried out by whichever instance is there, now or later, and again if it
        fails.

        Args:
            service: The service's class.
            after: Seconds until it is carried out; 0 for now.
            at: When it is carried out.
            id: By which the stream knows it again, and by which `cancel_tell` finds it.
            timeout: Longest wait for the stream's word, in seconds.

        Raises:
            TypeError: `service` is no class of a service.
            ValueError: A time that it cannot have.
        """
        teller = Teller(
            self.jetstream, service.name, after=after, at=at, id_=id, timeout=timeout
        )
        return make_teller(service, teller)

    async def cancel_tell(self, service: type[Service], id: str) -> bool:  # noqa: A002
        """Cancel a tell that waits for its time; False if there is none of this id."""
        return await cancel_tell(self.jetstream, service.name, id)
