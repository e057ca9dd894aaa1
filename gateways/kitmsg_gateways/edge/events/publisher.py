"""Events of clients, checked and stored: all of a request, or the word on why not."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from kitmsg.context import PROPAGATED
from kitmsg.errors import (
    AlreadyExists,
    DeadlineExceeded,
    Disconnected,
    FailedPrecondition,
    NotFound,
    Unavailable,
)
from kitmsg.events.publish import PUBLISH_SECONDS
from kitmsg.events.spans import sending, traced_headers
from kitmsg.wire import CE_SOURCE
from kitmsg_gateways.edge.admission import RETRY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kitmsg.auth import Principal
    from kitmsg.bus import Bus
    from kitmsg.context import Context
    from kitmsg.jetstream import JetStream, Outgoing, PubAck, Stream
    from kitmsg_gateways.edge.events.known import Known
    from kitmsg_gateways.edge.events.posted import Posted

__all__ = ["Publisher"]

_log = logging.getLogger("kitmsg_gateways.events")

_MORE_HEADERS: Final = 1024  # bytes, for what the store's client adds
_AUTH_ID: Final = "ce-authid"
_AUTH_TYPE: Final = "ce-authtype"  # CloudEvents' "Auth Context" extension
_AUTH_TYPES: Final = {"key": "api_key", "service": "service_account"}


class Publisher:
    """Stores events that clients publish.

    Args:
        bus: Where the store is.
        jetstream: The store.
        slots: Bounds the messages that are looked at at a time.
    """

    def __init__(
        self, bus: Bus, jetstream: JetStream, slots: asyncio.Semaphore
    ) -> None:
        self._bus = bus
        self._jetstream = jetstream
        self._slots = slots

    async def publish(
        self, known: Known, ctx: Context, events: Sequence[Posted]
    ) -> list[PubAck]:
        """Store events of one name; returns the stream's word for each, in order.

        Args:
            known: What they are.
            ctx: Who publishes, how long it may take, and the request id and trace.
            events: They.

        Raises:
            KitError: As `EventDoor.publish`.
        """
        fields = {n: v for n, v in ctx.metadata.items() if n in PROPAGATED}
        left = ctx.remaining(asyncio.get_running_loop().time())
        with sending(known.name):
            more = traced_headers(fields | _who(ctx.principal))
            messages = [known.outgoing(each, more) for each in events]
            self._check_sizes(messages, events)
            seconds = PUBLISH_SECONDS if left is None else left
            acks = await self._stored(known, messages, seconds)
        await self._check_sources(known, acks, events)
        return acks

    async def _stored(
        self, known: Known, messages: list[Outgoing], seconds: float
    ) -> list[PubAck]:
        try:
            async with asyncio.timeout(seconds):
                if len(messages) != 1:
                    return await self._jetstream.publish_many(messages, timeout=seconds)
                (one,) = messages
                ack = await self._jetstream.publish(
                    one.subject,
                    one.data,
                    one.headers,
                    message_id=one.message_id,
                    timeout=seconds,
                )
                return [ack]
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"no word from the stream in {seconds:.3g} s; it does no harm to publish"
                f" {known.name} again with the same id"
            ) from error
        except Disconnected:
            raise
        except (Unavailable, FailedPrecondition) as error:
            _log.warning("the event %s cannot be stored: %s", known.name, error)
            raise Unavailable(
                f"no stream takes the event {known.name} now",
                retry_after=RETRY_SECONDS,
            ) from error

    def _check_sizes(self, messages: list[Outgoing], events: Sequence[Posted]) -> None:
        most = self._bus.max_payload
        for message, posted in zip(messages, events, strict=True):
            if len(message.data) + len(message.headers or b"") > most - _MORE_HEADERS:
                raise posted.refusal("data", f"is too long: {most} bytes are the most")

    async def _check_sources(
        self, known: Known, acks: list[PubAck], events: Sequence[Posted]
    ) -> None:
        """Refuse an event that was taken for one of somebody else's, and so not stored."""
        pairs = zip(acks, events, strict=True)
        doubtful = [(ack.sequence, posted) for ack, posted in pairs if ack.duplicate]
        if doubtful:
            stream = await self._jetstream.stream(known.stream)
            await asyncio.gather(*(self._check_source(stream, *d) for d in doubtful))

    async def _check_source(
        self, stream: Stream, sequence: int, posted: Posted
    ) -> None:
        try:
            async with self._slots:
                stored = await stream.get(sequence, fresh=True)
        except NotFound:
            return  # it was there
        if stored.headers.get(CE_SOURCE, "") != posted.source:
            raise AlreadyExists(
                f"{posted.place or 'the event'}: id {posted.id!r} was used by another"
                " source a moment ago; give each event an id of its own"
            )


def _who(principal: Principal | None) -> dict[str, str]:
    """Return the attributes that say who published an event."""
    if principal is None:
        return {}
    kind = _AUTH_TYPES.get(principal.method, "unknown")
    return {_AUTH_TYPE: kind, _AUTH_ID: quote(principal.name, safe="@:/+=,;!$&'()*")}
