"""A consumer of a stream: a place in it that all who pull from it share."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from kitmsg.errors import AlreadyExists, InvalidArgument, NotFound
from kitmsg.jetstream.api import NO_CONSUMER, number_of
from kitmsg.jetstream.encoding import consumer_info, consumer_json, time_text
from kitmsg.jetstream.messages import DEFAULT_BUFFER, Messages
from kitmsg.jetstream.source import Pace

if TYPE_CHECKING:
    from kitmsg.jetstream.api import Api
    from kitmsg.jetstream.configs import ConsumerConfig, ConsumerInfo
    from kitmsg.jetstream.delivery import Delivery

__all__ = ["Consumer", "put_consumer"]

_log = logging.getLogger("kitmsg.jetstream")

_RESUMED: Final = 0.0  # a time that is over
_PAUSE: Final = 0.1  # seconds between looks for a consumer that has no leader


async def put_consumer(
    api: Api, stream: str, config: ConsumerConfig, action: str
) -> ConsumerInfo:
    """Create or update a consumer.

    Args:
        api: The server's.
        stream: Name of the stream.
        config: The consumer's.
        action: ``create``, ``update`` or "" for either.

    Raises:
        KitError: As the server's error says.
    """
    fields = consumer_json(config)
    body = {"stream_name": stream, "config": fields, "action": action}
    return consumer_info(await api.ask(f"CONSUMER.CREATE.{stream}.{config.name}", body))


class Consumer:
    """A consumer, got from its stream.

    Args:
        api: The server's.
        stream: Name of its stream.
        config: How it is made again when somebody deletes it.
        pace: How long pulls last.
        floor: Sequence up to which all is acked.
    """

    def __init__(
        self, api: Api, stream: str, config: ConsumerConfig, pace: Pace, floor: int
    ) -> None:
        self._api = api
        self._stream = stream
        self._config = config
        self._pace = pace
        self._floor = floor
        self._fetched: Messages | None = None
        self._fetching = asyncio.Lock()

    @property
    def name(self) -> str:
        """Its name."""
        return self._config.name

    @property
    def stream(self) -> str:
        """Name of its stream."""
        return self._stream

    @property
    def path(self) -> str:
        """Its stream and name, as they stand in subjects."""
        return f"{self._stream}.{self.name}"

    async def info(self) -> ConsumerInfo:
        """Return how it is now.

        Raises:
            NotFound: It is gone.
        """
        return consumer_info(await self._api.ask(f"CONSUMER.INFO.{self.path}"))

    def messages(self, *, buffer: int = DEFAULT_BUFFER, most: int = 0) -> Messages:
        """Return its messages, to be opened with ``async with`` and read.

        Args:
            buffer: Messages that are pulled ahead, 1 or more.
            most: As many are pulled ahead while they are read quickly; `buffer`, if that
                is more.

        Raises:
            InvalidArgument: `buffer` is less than 1.
        """
        if buffer < 1:
            raise InvalidArgument(f"buffer must be 1 or more, not {buffer}")
        return Messages(self._api.bus, self, self._pace, buffer=buffer, most=most)

    async def fetch(self, most: int, timeout: float = 5.0) -> list[Delivery]:
        """Return `most` messages, or those that are there after `timeout` seconds.

        Args:
            most: How many, 1 or more.
            timeout: Seconds to wait for them; 0.0 to take what is there now.

        Raises:
            InvalidArgument: `most` is less than 1.
            FailedPrecondition: The consumer refuses pulls.
            NotFound: The stream is gone.
            Unavailable: The store is out of reach.
        """
        if most < 1:
            raise InvalidArgument(f"a fetch is of 1 message or more, not {most}")
        async with self._fetching:
            if self._fetched is None:
                self._fetched = Messages(
                    self._api.bus, self, self._pace, buffer=0, ahead=False
                )
                self._fetched.open()
            ends = asyncio.get_running_loop().time() + timeout
            while not await self._fetched.pull(most, _left(ends)):
                await self.restore()
                if not _left(ends):
                    await self._fetched.pull(most, 0.0)
                    break
                await asyncio.sleep(min(_left(ends), _PAUSE))
            return self._fetched.drawn(most)

    async def pause(self, until: float) -> None:
        """Deliver nothing until a time, in unix seconds on the store's clock."""
        body = {"pause_until": time_text(until)}
        await self._api.ask(f"CONSUMER.PAUSE.{self.path}", body)

    async def resume(self) -> None:
        """Deliver again."""
        await self.pause(_RESUMED)

    async def delete(self) -> None:
        """Delete it, and with it what it knows of acks."""
        await self.close()
        await self._api.ask(f"CONSUMER.DELETE.{self.path}")

    async def close(self) -> None:
        """End what `fetch` left open: give back what came after its time."""
        if self._fetched is not None:
            fetched, self._fetched = self._fetched, None
            await fetched.close()

    # -- what `Messages` asks for

    async def look(self) -> None:
        """Note how far all is acked.  Raises `NotFound` where it is gone."""
        info = await self.info()
        self._floor = max(self._floor, info.ack_floor)

    async def restore(self) -> None:
        """Make it again, if it is gone, from the last message known to be acked."""
        try:
            await self.look()
        except NotFound as error:
            if number_of(error) != NO_CONSUMER:
                raise
        else:
            return
        config = self._config
        # One of what is new has a floor of 0 only where the stream was empty.
        if self._floor or config.deliver == "new":
            config = replace(
                config,
                deliver="by_start_sequence",
                start_sequence=self._floor + 1,
                start_time=None,
            )
        with contextlib.suppress(AlreadyExists):  # somebody else was faster
            await put_consumer(self._api, self._stream, config, "create")
            _log.warning(
                "consumer %s of stream %s was deleted: made again, from message %d on",
                self.name,
                self._stream,
                self._floor + 1,
            )


def _left(ends: float) -> float:
    return max(ends - asyncio.get_running_loop().time(), 0.0)
