"""`FixtureKit`: the kit of the fixtures, which knows what was published and what is left."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from kitmsg.bus.memory import MemoryBus
from kitmsg.errors import KitError, NotFound
from kitmsg.events.dead import DEAD
from kitmsg.events.event import Event
from kitmsg.service import Kit, Service, ServiceHost
from kitmsg.service.stored import needs_store
from kitmsg.wire import DEAD_ATTEMPTS, DEAD_REASON, DEAD_SUBJECT

if TYPE_CHECKING:
    from kitmsg.jetstream import JetStream, Stored

__all__ = ["DeadLetter", "FixtureKit"]

E = TypeVar("E", bound=Event)

_LOOK_SECONDS: Final = 0.01


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A delivery that failed for good.

    Attributes:
        name: Dotted name of the subscription, the endpoint or the schedule.
        reason: The last error.
        attempts: How many there were.
        subject: Where it was published.
        data: Its payload.
    """

    name: str
    reason: str
    attempts: int
    subject: str
    data: bytes


class FixtureKit(Kit):
    """The kit of the fixtures ``kit`` and ``kit_nats``; makes the streams that are needed.

    Arguments as those of `Kit`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"makes_streams": True, **kwargs})
        self._begun = time.time()
        self._stores = False

    async def settled(self, timeout: float = 60.0) -> None:
        """Wait until services here have worked on all that is stored for them.

        What waits for its next attempt, or for its time, is not waited for.

        Args:
            timeout: In seconds.

        Raises:
            TimeoutError: They have not.
        """
        async with asyncio.timeout(timeout):
            while not await self._is_settled():  # noqa: ASYNC110  asked, not told
                await asyncio.sleep(_LOOK_SECONDS)

    async def published(
        self, event: type[E], where: Mapping[str, Any] | None = None
    ) -> list[E]:
        """Return the events of a class that were published, in order.

        Args:
            event: The class.
            where: Values of fields that are in the subject; others are left out.
        """
        try:
            return [each async for each in self.events(event, where=where)]
        except NotFound:
            return []

    async def dead(self) -> list[DeadLetter]:
        """Return the dead letters, in order."""
        try:
            stream = await self.jetstream.stream(DEAD)
        except NotFound:
            return []
        return [_letter(stored) async for stored in stream.read(f"{DEAD}.>")]

    async def forget(self) -> None:
        """Delete the streams that were made since this kit was, on a server that lives on."""
        if isinstance(self.bus, MemoryBus) or not self._stores:
            return
        with contextlib.suppress(KitError):
            for info in await self.jetstream.streams():
                if info.created >= self._begun:
                    await self.jetstream.delete_stream(info.config.name)

    async def serve(self, service: Service | Callable[..., Service]) -> ServiceHost:  # noqa: D102
        host = await super().serve(service)
        self._stores = self._stores or needs_store(type(host.service))
        return host

    @functools.cached_property
    def jetstream(self) -> JetStream:  # noqa: D102
        self._stores = True
        return super().jetstream

    async def _is_settled(self) -> bool:
        """Tell whether nothing is in hand, and nothing waits to be delivered now."""
        for host in self.hosts:
            if host.deliveries:
                return False
        streams = await self.jetstream.streams()
        for info in streams:
            stream = await self.jetstream.stream(info.config.name)
            if any(consumer.pending for consumer in await stream.consumers()):
                return False
        return not any(host.deliveries for host in self.hosts)


def _letter(stored: Stored) -> DeadLetter:
    return DeadLetter(
        name=stored.subject.removeprefix(f"{DEAD}."),
        reason=stored.headers.get(DEAD_REASON, ""),
        attempts=int(stored.headers.get(DEAD_ATTEMPTS, "0")),
        subject=stored.headers.get(DEAD_SUBJECT, ""),
        data=stored.data,
    )
