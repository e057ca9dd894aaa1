"""Streams behind a bus: made, listed and published to, through the JetStream API."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from kitmsg.errors import AlreadyExists, KitError
from kitmsg.jetstream.api import EXISTS, Api, number_of
from kitmsg.jetstream.checks import check_bucket
from kitmsg.jetstream.encoding import stream_info, stream_json, stream_keys
from kitmsg.jetstream.levels import Levels, level_of
from kitmsg.jetstream.outgoing import Outgoing
from kitmsg.jetstream.publisher import Publisher
from kitmsg.jetstream.source import Pace
from kitmsg.jetstream.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kitmsg.bus import Bus
    from kitmsg.jetstream.configs import StreamConfig, StreamInfo
    from kitmsg.jetstream.outgoing import Expect, PubAck, Schedule

__all__ = ["Streams"]

_TIMEOUT: Final = 5.0


class Streams:
    """The half of `JetStream` that is the same on a server and in memory.

    Args:
        bus: The connection.
        pace: How long pulls last.
    """

    def __init__(self, bus: Bus, pace: Pace | None = None) -> None:
        self._api = Api(bus, _TIMEOUT)
        self._levels = Levels(self._api)
        self._pace = pace or Pace()
        self._publisher = Publisher(self._api, self._levels)

    def now(self) -> float:
        """Return the time, in unix seconds, as this machine has it."""
        return time.time()

    async def create_stream(self, config: StreamConfig) -> Stream:
        """Make a stream, or return the one that is there.  See `JetStream`."""
        await self._check(config)
        try:
            found = await self._api.ask(
                f"STREAM.CREATE.{config.name}",
                stream_json(config),
                level=level_of(config)[0],
            )
        except KitError as error:
            if number_of(error) != EXISTS:
                raise
            raise AlreadyExists(
                f"there is another stream {config.name}, or one whose options differ:"
                " compare them, and update it or take another name"
            ) from error
        return self._handle(stream_info(found))

    async def update_stream(self, config: StreamConfig) -> Stream:
        """Change a stream.  See `JetStream`."""
        await self._check(config)
        found = await self._api.ask(f"STREAM.INFO.{config.name}")
        # What others have set beside stays: sources, placement and their like.
        wanted = stream_json(config)
        kept = {k: v for k, v in found["config"].items() if k not in stream_keys()}
        found = await self._api.ask(
            f"STREAM.UPDATE.{config.name}", kept | wanted, level=level_of(config)[0]
        )
        return self._handle(stream_info(found))

    async def stream(self, name: str) -> Stream:
        """Return the stream `name`.  See `JetStream`."""
        found = await self._api.ask(f"STREAM.INFO.{check_bucket(name, 'stream')}")
        return self._handle(stream_info(found))

    async def streams(self, subject: str = "") -> list[StreamInfo]:
        """Return how the streams are, by name.  See `JetStream`."""
        body = {"subject": subject} if subject else {}
        found = await self._api.listed("STREAM.LIST", "streams", body)
        return sorted(map(stream_info, found), key=lambda info: info.config.name)

    async def delete_stream(self, name: str) -> None:
        """Delete a stream.  See `JetStream`."""
        await self._api.ask(f"STREAM.DELETE.{check_bucket(name, 'stream')}")

    async def publish(
        self,
        subject: str,
        data: bytes = b"",
        headers: Mapping[str, str] | bytes | None = None,
        *,
        message_id: str = "",
        expect: Expect | None = None,
        ttl: float | None = None,
        schedule: Schedule | None = None,
        timeout: float = _TIMEOUT,
    ) -> PubAck:
        """Store a message.  See `JetStream`."""
        message = Outgoing(subject, data, headers, message_id, expect, ttl, schedule)
        if ttl is not None or schedule is not None:
            await self._publisher.check(message)
        return await self._publisher.send(message, timeout)

    async def publish_many(
        self,
        messages: Iterable[Outgoing],
        *,
        window: int = 1024,
        timeout: float = _TIMEOUT,
    ) -> list[PubAck]:
        """Store messages, each by itself.  See `JetStream`."""
        return await self._publisher.publish_many(messages, window, timeout)

    async def publish_batch(
        self, messages: Sequence[Outgoing], *, timeout: float = _TIMEOUT
    ) -> PubAck:
        """Store all of the messages or none.  See `JetStream`."""
        return await self._publisher.publish_batch(messages, timeout)

    async def _check(self, config: StreamConfig) -> None:
        check_bucket(config.name, "stream")
        level, feature = level_of(config)
        if level:
            await self._levels.need(level, feature)

    def _handle(self, info: StreamInfo) -> Stream:
        return Stream(
            self._api,
            self._levels,
            self._pace,
            info.config.name,
            direct=info.config.allow_direct,
        )
