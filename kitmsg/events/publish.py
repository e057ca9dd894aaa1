"""Publishes events: returns when the stream has them, retried under one message id."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from kitmsg.codec import JSON, Codec
from kitmsg.context import NOWHERE, PROPAGATED, Context, current
from kitmsg.errors import (
    Disconnected,
    FailedPrecondition,
    InvalidArgument,
    NoResponders,
    PermissionDenied,
    Unavailable,
)
from kitmsg.events.attempts import once_ids
from kitmsg.events.declared import Declared, apply, plan
from kitmsg.events.envelope import Writer, new_event_id
from kitmsg.events.event import Event, Facts, facts_of
from kitmsg.events.spans import sending, traced_headers
from kitmsg.events.stream import PREFIX
from kitmsg.jetstream import Outgoing
from kitmsg.tracing import tracer

if TYPE_CHECKING:
    from kitmsg.jetstream import JetStream

__all__ = ["PUBLISH_SECONDS", "Publisher", "carried", "store", "template_of"]

PUBLISH_SECONDS: Final = 5.0
"""Longest wait for a stream's word, in seconds, where no deadline is nearer."""

_ID: Final = re.compile(r"[!-~]{1,256}")


class Publisher:
    """Publishes into one store.

    Args:
        jetstream: The store.
        codec: How events are encoded.
        makes_streams: Whether a stream that is missing is made.
    """

    def __init__(
        self, jetstream: JetStream, codec: Codec = JSON, *, makes_streams: bool = False
    ) -> None:
        self._jetstream = jetstream
        self._codec = codec
        self._makes_streams = makes_streams
        # Classes whose stream was looked for.
        self._ready: set[type[Event]] = set()
        self._making = asyncio.Lock()
        self._writers: dict[type[Event], Writer] = {}

    async def publish(self, event: Event, *, id: str = "", timeout: float) -> int:  # noqa: A002
        """Publish one event; returns its sequence in its stream.

        Args:
            event: The event.
            id: Its id, by which the stream knows it again; made up by default.
            timeout: Longest wait for the stream's word, in seconds.

        Raises:
            TypeError: It is no event.
            InvalidArgument: It does not fit its class; nothing is stored.
            FailedPrecondition: No stream stores it.
            ResourceExhausted: The stream is full.
            Disconnected: There is no connection.
            DeadlineExceeded: No word in time; it may be stored.
        """
        if tracer() is None:
            return await self._publish(event, id, timeout)
        cls = type(event)
        with sending(cls.__name__, template=template_of(cls)) as show:
            return await self._publish(event, id, timeout, show)

    async def _publish(
        self,
        event: Event,
        id_: str,
        timeout: float,
        show: Callable[[Outgoing], None] | None = None,
    ) -> int:
        message = self._message(event, id_)
        if show is not None:
            show(message)
        known = await self._known(event, message)
        if known is not None:
            return known
        if self._makes_streams and type(event) not in self._ready:
            await self._make_streams(type(event))
        try:
            return await store(self._jetstream, message, timeout)
        except FailedPrecondition:
            if not await self._made_again(type(event)):
                raise
            return await store(self._jetstream, message, timeout)

    async def publish_many(
        self, events: Iterable[Event], *, timeout: float
    ) -> list[int]:
        """Publish events side by side; returns their sequences, in order.

        All are encoded before the first one leaves.
        """
        wanted = list(events)
        if not wanted:
            return []
        classes = dict.fromkeys(map(type, wanted))
        what = ", ".join(cls.__name__ for cls in classes)
        with sending(what, count=len(wanted)):
            messages = [self._message(event) for event in wanted]
            return await self._publish_many(wanted, messages, timeout)

    async def _publish_many(
        self, events: Sequence[Event], messages: Sequence[Outgoing], timeout: float
    ) -> list[int]:
        known = [
            await self._known(*each) for each in zip(events, messages, strict=True)
        ]
        left = [m for m, k in zip(messages, known, strict=True) if k is None]
        classes = dict.fromkeys(map(type, events))
        await self._make_streams(*classes)
        try:
            found = await self._store_many(left, timeout)
        except FailedPrecondition:
            if not await self._made_again(*classes):
                raise
            found = await self._store_many(left, timeout)
        sequences = iter(found)
        return [next(sequences) if k is None else k for k in known]

    async def _store_many(
        self, messages: Sequence[Outgoing], timeout: float
    ) -> list[int]:
        try:
            acks = await self._jetstream.publish_many(messages, timeout=_left(timeout))
        except Unavailable as error:
            await _need_stream(self._jetstream, messages[0].subject, error)
            raise
        return [ack.sequence for ack in acks]

    async def _known(self, event: Event, message: Outgoing) -> int | None:
        """Return the sequence that an earlier attempt got for it; None where there is none."""
        own = once_ids.get()
        if own is None:
            return None
        name = facts_of(type(event)).stream.name
        return await own.stored(self._jetstream, name, message)

    def _message(self, event: Event, id_: str = "") -> Outgoing:
        """Return the message of an event.

        Raises:
            TypeError: It is no event.
            InvalidArgument: A field does not fit, or has no place in the subject; or the id
                cannot stand in a header.
        """
        writer = self._writers.get(type(event))
        if writer is None:
            writer = self._writers[type(event)] = Writer(type(event), self._codec)
        if id_ and not _ID.fullmatch(id_):
            raise InvalidArgument(
                f"id={id_[:40]!r}: up to 256 printable ASCII characters without spaces",
                field="id",
            )
        ctx, own = current(), once_ids.get()
        made = id_ or (new_event_id() if own is None else own.next())
        block = writer.block(made, _source(ctx), carried(ctx))
        return Outgoing(writer.subject(event), writer.payload(event), block, made)

    async def _make_streams(self, *classes: type[Event]) -> None:
        if not self._makes_streams or self._ready.issuperset(classes):
            return
        declared = Declared()
        for cls in classes:
            declared.event(cls)
        async with self._making:  # the first of many makes them for all
            if not self._ready.issuperset(classes):
                await apply(self._jetstream, await plan(self._jetstream, declared))
                self._ready.update(classes)

    async def _made_again(self, *classes: type[Event]) -> bool:
        """Make streams that were deleted since they were made; False where none was made."""
        if self._ready.isdisjoint(classes):
            return False
        self._ready.clear()
        await self._make_streams(*classes)
        return True


async def store(jetstream: JetStream, message: Outgoing, timeout: float) -> int:
    """Store a message; returns its sequence.

    Args:
        jetstream: The store.
        message: What is stored; it has no expectations, and lives as long as others.
        timeout: Longest wait for the stream's word, in seconds; what the running turn has
            left, if that is less.

    Raises:
        FailedPrecondition: No stream stores its subject.
        KitError: As `JetStream.publish`.
    """
    try:
        return await _put(jetstream, message, timeout)
    except Unavailable as error:
        await _need_stream(jetstream, message.subject, error)
        if not isinstance(error.__cause__, NoResponders):
            raise
    # Nobody was there to store it, and now there is: the stream was made meanwhile.
    return await _put(jetstream, message, timeout)


async def _put(jetstream: JetStream, message: Outgoing, timeout: float) -> int:
    ack = await jetstream.publish(
        message.subject,
        message.data,
        message.headers,
        message_id=message.message_id,
        schedule=message.schedule,
        timeout=_left(timeout),
    )
    return ack.sequence


def _left(timeout: float) -> float:
    deadline = current().deadline
    if deadline is None:
        return timeout
    return min(timeout, max(0.0, deadline - asyncio.get_running_loop().time()))


async def _need_stream(jetstream: JetStream, subject: str, error: Unavailable) -> None:
    """Return if a stream stores `subject`, though nobody answered for it, or nobody knows.

    Args:
        jetstream: The store.
        subject: Where something was published.
        error: The answer.

    Raises:
        FailedPrecondition: There is none.
    """
    if isinstance(error, Disconnected):
        return
    try:
        if await jetstream.streams(subject):
            return
    except PermissionDenied:  # with the least rights nobody but an operator asks
        return
    raise FailedPrecondition(
        f"no stream stores {subject!r}; see `kitmsg streams plan`, and make what is missing"
        " with `kitmsg streams apply`"
    ) from error


def carried(ctx: Context) -> Mapping[str, str]:
    """Return the headers that a message takes along from the running turn."""
    if ctx is NOWHERE:
        return traced_headers({})
    if ctx.message is not None:
        return traced_headers(ctx.propagated())
    given = ctx.metadata
    names: tuple[str, ...] = PROPAGATED
    return traced_headers({name: given[name] for name in names if name in given})


def template_of(cls: type) -> str:
    """Return the subject of a class of events as it is declared; "" for what is none."""
    found = getattr(cls, "__kit_event__", None)
    return f"{PREFIX}.{found.template.text}" if isinstance(found, Facts) else ""


def _source(ctx: Context) -> str:
    return ctx.endpoint.partition(".")[0]
