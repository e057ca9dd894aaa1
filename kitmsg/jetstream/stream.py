"""A stream: its state, its consumers, and reads without a consumer (NATS ADR-31)."""

from __future__ import annotations

import asyncio
import base64
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from kitmsg.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NoResponders,
    NotFound,
    Unavailable,
)
from kitmsg.jetstream.api import NO_MESSAGE, number_of
from kitmsg.jetstream.checks import check_bucket
from kitmsg.jetstream.configs import ConsumerConfig
from kitmsg.jetstream.consumer import Consumer, put_consumer
from kitmsg.jetstream.delivery import Stored
from kitmsg.jetstream.encoding import consumer_info, stream_info, time_of, time_text
from kitmsg.jetstream.follow import Follow
from kitmsg.jetstream.messages import DEFAULT_BUFFER
from kitmsg.message import Headers
from kitmsg.wire import JS_API, Js

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from kitmsg.jetstream.api import Api
    from kitmsg.jetstream.configs import ConsumerInfo, DeliverPolicy, StreamInfo
    from kitmsg.jetstream.levels import Levels
    from kitmsg.jetstream.source import Pace
    from kitmsg.message import Message

__all__ = ["Stream"]

_TIMEOUT: Final = 5.0
_NOT_FOUND: Final = 404
_END: Final = 204
_BATCH: Final = 256
_FORGOTTEN: Final = 60.0  # seconds until the server drops the consumer of a lost reader
_TOLD: Final = (
    Js.STREAM,
    Js.SUBJECT,
    Js.SEQUENCE,
    Js.TIME,
    Js.PENDING,
    Js.LAST,
    Js.UP_TO,
)


class Stream:
    """A stream, got from `JetStream`.

    Args:
        api: The server's.
        levels: What the server can do.
        pace: How long pulls last.
        name: Its name.
        direct: Whether any replica answers reads.
    """

    def __init__(
        self, api: Api, levels: Levels, pace: Pace, name: str, *, direct: bool
    ) -> None:
        self.name = name
        self._api = api
        self._levels = levels
        self._pace = pace
        self._direct = direct

    async def info(self) -> StreamInfo:
        """Return how it is now.

        Raises:
            NotFound: It is gone.
        """
        return stream_info(await self._api.ask(f"STREAM.INFO.{self.name}"))

    async def subjects(self, pattern: str = ">") -> dict[str, int]:
        """Return the subjects that have messages, with how many each has."""
        found: dict[str, int] = {}
        while True:
            body = {"subjects_filter": pattern, "offset": len(found)}
            told = await self._api.ask(f"STREAM.INFO.{self.name}", body)
            page = told["state"].get("subjects") or {}
            found.update(page)
            if not page or len(found) >= told.get("total", 0):
                return found

    async def purge(self, subject: str = ">", *, keep: int = 0, before: int = 0) -> int:
        """Delete messages; return how many.

        Args:
            subject: Pattern of the subjects.
            keep: How many of the newest stay.
            before: Sequence from which on all stay; 0 for none.  Not with `keep`.

        Raises:
            InvalidArgument: Both `keep` and `before` are given.
            FailedPrecondition: The stream denies it.
        """
        if keep and before:
            raise InvalidArgument("a purge takes `keep` or `before`, not both")
        body: dict[str, Any] = {} if subject == ">" else {"filter": subject}
        body |= {name: n for name, n in (("keep", keep), ("seq", before)) if n}
        found = await self._api.ask(f"STREAM.PURGE.{self.name}", body)
        return int(found["purged"])

    async def delete(self, sequence: int) -> None:
        """Delete one message.

        Raises:
            NotFound: There is none.
            FailedPrecondition: The stream denies it.
        """
        body = {"seq": sequence, "no_erase": True}
        await self._api.ask(f"STREAM.MSG.DELETE.{self.name}", body)

    # -- reads

    async def get(self, sequence: int, *, fresh: bool = False) -> Stored:
        """Return the message `sequence`.

        Args:
            sequence: Its number.
            fresh: Ask the stream's leader, which has all that is stored; else a replica
                may answer, a little late.

        Raises:
            NotFound: There is none.
        """
        return await self._read({"seq": sequence}, fresh=fresh)

    async def last(self, subject: str, *, fresh: bool = False) -> Stored:
        """Return the last message of a subject, or of all that match; else as `get`."""
        return await self._read({"last_by_subj": subject}, fresh=fresh)

    async def next(
        self, subject: str, sequence: int = 1, *, fresh: bool = False
    ) -> Stored:
        """Return the first message that matches, from `sequence` on; else as `get`."""
        body = {"seq": max(sequence, 1), "next_by_subj": subject}
        return await self._read(body, fresh=fresh)

    async def last_of(self, subjects: Sequence[str]) -> list[Stored]:
        """Return the last message of each subject that matches, by sequence.

        Raises:
            FailedPrecondition: The server is older than 2.11, or the stream has no
                direct reads.
        """
        await self._levels.need(1, "reading many subjects at once")
        body = {"multi_last": list(subjects), "batch": _BATCH}
        found: list[Stored] = []
        while True:
            page, left, up_to = await self._read_batch(body)
            found += page
            if not left or not page:
                return found
            body |= {"seq": page[-1].sequence + 1, "up_to_seq": up_to}

    async def read(
        self,
        subject: str = ">",
        *,
        sequence: int = 1,
        since: float | None = None,
        batch: int = _BATCH,
    ) -> AsyncIterator[Stored]:
        """Yield the messages that match and are there, in their order.

        Args:
            subject: Pattern of the subjects.
            sequence: Where to begin.
            since: Time to begin at, in unix seconds; takes the place of `sequence`.
            batch: How many are asked for at a time.

        Raises:
            FailedPrecondition: As `last_of`.
        """
        while True:
            page, left = await self.page(
                subject, sequence=sequence, since=since, batch=batch
            )
            for one in page:
                yield one
            if not left or not page:
                return
            since, sequence = None, page[-1].sequence + 1

    async def page(
        self,
        subject: str = ">",
        *,
        sequence: int = 1,
        since: float | None = None,
        batch: int = _BATCH,
        max_bytes: int = 0,
    ) -> tuple[list[Stored], int]:
        """Return the first messages of `read`, and how many there are behind them.

        A replica may answer, which may be a little behind; it leaves none out in between.

        Args:
            subject: As in `read`; `sequence` and `since`, too.
            sequence: Where to begin.
            since: Time to begin at, in unix seconds; takes the place of `sequence`.
            batch: Most of them.
            max_bytes: Bytes after which no more are sent; 0 for no bound.

        Raises:
            FailedPrecondition: As `last_of`.
        """
        await self._levels.need(1, "reading many messages at once")
        body: dict[str, Any] = {"next_by_subj": subject, "batch": batch}
        body |= (
            {"seq": max(sequence, 1)}
            if since is None
            else {"start_time": time_text(since)}
        )
        if max_bytes:
            body["max_bytes"] = max_bytes
        found, left, _ = await self._read_batch(body)
        return found, left

    def follow(
        self,
        *subjects: str,
        sequence: int | None = None,
        since: float | None = None,
        deliver: DeliverPolicy = "all",
        buffer: int = DEFAULT_BUFFER,
    ) -> Follow:
        """Return the messages that match, in order, and then those that come.

        To be opened with ``async with``; it outlives the connection and misses none.

        Args:
            *subjects: Patterns of the subjects; none for all.
            sequence: Where to begin.
            since: Time to begin at, in unix seconds; takes the place of `sequence`.
            deliver: Where to begin with neither of them.
            buffer: Messages that are pulled ahead.

        Raises:
            InvalidArgument: `buffer` is less than 1.
            NotFound: When it is opened: the stream is gone.
        """
        if buffer < 1:
            raise InvalidArgument(f"buffer must be 1 or more, not {buffer}")
        if since is not None:
            deliver, sequence = "by_start_time", None
        elif sequence is not None:
            deliver = "by_start_sequence"
        config = ConsumerConfig(
            durable=False,
            filters=subjects,
            deliver=deliver,
            start_sequence=sequence,
            start_time=since,
            ack="none",
            inactive_after=_FORGOTTEN,
            replicas=1,
            in_memory=True,
        )
        return Follow(self._api, self.name, config, self._pace, buffer)

    async def _read(self, body: dict[str, Any], *, fresh: bool) -> Stored:
        if fresh or not self._direct:
            return await self._read_leader(body)
        bus, where = self._api.bus, f"{JS_API}.DIRECT.GET.{self.name}"
        try:
            reply = await bus.request(where, _json(body), _TIMEOUT)
        except NoResponders:
            return await self._read_leader(body)  # which says what is the matter
        if reply.status == _NOT_FOUND:
            raise NotFound(self._absent(body))
        if reply.status:
            raise Unavailable(f"stream {self.name} cannot be read: {_line(reply)}")
        return _stored(reply)

    async def _read_leader(self, body: dict[str, Any]) -> Stored:
        try:
            answer = await self._api.ask(f"STREAM.MSG.GET.{self.name}", body)
        except NotFound as error:
            if number_of(error) != NO_MESSAGE:
                raise
            raise NotFound(self._absent(body)) from error.__cause__
        found = answer["message"]
        return Stored(
            found["subject"],
            base64.b64decode(found.get("data", "")),
            Headers.parse(base64.b64decode(found.get("hdrs", ""))),
            found["seq"],
            time_of(found["time"]),
        )

    def _absent(self, body: dict[str, Any]) -> str:
        """Return the sentence for a read that found nothing."""
        subject = body.get("last_by_subj") or body.get("next_by_subj")
        what = f" of {subject!r}" if subject else f" {body['seq']}"
        behind = f" from {body['seq']} on" if subject and body.get("seq", 1) > 1 else ""
        return f"stream {self.name} has no message{what}{behind}"

    async def _read_batch(self, body: dict[str, Any]) -> tuple[list[Stored], int, int]:
        """Return a page, how many messages are behind it, and the stream's last sequence."""
        bus = self._api.bus
        page: list[Stored] = []
        ended: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        def take(message: Message) -> None:
            if not message.status:
                page.append(_stored(message))
            elif not ended.done():
                ended.set_result(message)

        inbox = f"{bus.inbox}js.{secrets.token_urlsafe(12)}"
        subscription = bus.subscribe(inbox, take)
        try:
            bus.publish(f"{JS_API}.DIRECT.GET.{self.name}", _json(body), inbox)
            async with asyncio.timeout(_TIMEOUT):
                end = await ended
        except TimeoutError:
            raise DeadlineExceeded(
                f"stream {self.name} sent no more in {_TIMEOUT:g} s"
            ) from None
        finally:
            subscription.unsubscribe()
        if end.status == _NOT_FOUND:
            return [], 0, 0
        if end.status != _END:
            raise FailedPrecondition(
                f"stream {self.name} cannot be read directly: {_line(end)}; it needs"
                " allow_direct"
            )
        headers = end.headers
        return page, int(headers.get(Js.PENDING, "0")), int(headers.get(Js.UP_TO, "0"))

    # -- consumers

    async def create_consumer(self, config: ConsumerConfig) -> Consumer:
        """Make a consumer, or return the one that is there with the same `config`.

        Raises:
            AlreadyExists: There is one of this name, and it is another.
            FailedPrecondition: The server cannot, or the stream does not take it.
            InvalidArgument: The configuration is malformed.
        """
        return await self._put(config, "create")

    async def update_consumer(self, config: ConsumerConfig) -> Consumer:
        """Change a consumer, or make it.  Raises as `create_consumer`.

        Where it begins cannot be changed, nor how it is acked.
        """
        return await self._put(config, "")

    async def consumer(self, name: str) -> Consumer:
        """Return the consumer `name`.

        Raises:
            NotFound: There is none.
        """
        path = f"{self.name}.{check_bucket(name, 'consumer')}"
        return self._handle(consumer_info(await self._api.ask(f"CONSUMER.INFO.{path}")))

    async def consumers(self) -> list[ConsumerInfo]:
        """Return how its consumers are, by name."""
        where = f"CONSUMER.LIST.{self.name}"
        found = await self._api.listed(where, "consumers")
        return sorted(map(consumer_info, found), key=lambda info: info.config.name)

    async def delete_consumer(self, name: str) -> None:
        """Delete a consumer.

        Raises:
            NotFound: There is none.
        """
        path = f"{self.name}.{check_bucket(name, 'consumer')}"
        await self._api.ask(f"CONSUMER.DELETE.{path}")

    async def _put(self, config: ConsumerConfig, action: str) -> Consumer:
        if not config.name:
            config = replace(config, name=secrets.token_hex(8))
        check_bucket(config.name, "consumer")
        if config.paused_until is not None:
            await self._levels.need(1, "a consumer that is paused")
        info = await put_consumer(self._api, self.name, config, action)
        return self._handle(info)

    def _handle(self, info: ConsumerInfo) -> Consumer:
        return Consumer(self._api, self.name, info.config, self._pace, info.ack_floor)


def _json(body: dict[str, Any]) -> bytes:
    return msgspec.json.encode(body)


def _stored(message: Message) -> Stored:
    headers = message.headers
    own = [(n, v) for n, v in headers.pairs() if n not in _TOLD]
    return Stored(
        headers.single(Js.SUBJECT),
        message.data,
        Headers(own),
        int(headers.single(Js.SEQUENCE)),
        time_of(headers.single(Js.TIME)),
    )


def _line(message: Message) -> str:
    line = message.header_block.split(b"\r\n", 1)[0]
    return line.decode("utf-8", "replace").partition(" ")[2]
