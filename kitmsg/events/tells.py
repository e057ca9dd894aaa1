"""Tells: calls that must not get lost and have no answer, stored until they are done.

One is under ``tell.{service}.{endpoint}``; one for later is a schedule under
``later.{service}.{id}``, which the store publishes there at its time.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from kitmsg.context import current
from kitmsg.errors import NotFound
from kitmsg.events.attempts import once_ids
from kitmsg.events.declared import tell_stream
from kitmsg.events.envelope import new_event_id
from kitmsg.events.publish import carried, store
from kitmsg.events.spans import sending
from kitmsg.events.template import token_of
from kitmsg.jetstream import Outgoing, Schedule
from kitmsg.jetstream.checks import LAST_TIME
from kitmsg.wire import CALLER, CONTENT_TYPE

if TYPE_CHECKING:
    from kitmsg.jetstream import JetStream

__all__ = ["Teller", "later_subject", "tell_subject"]

_MAX_AFTER: Final = 10 * 365 * 86_400.0


def tell_subject(name: str) -> str:
    """Return the subject of what an endpoint is told, by its dotted name."""
    return f"tell.{name}"


def later_subject(service: str, id_: str) -> str:
    """Return the subject of a tell that waits for its time."""
    return f"later.{service}.{token_of(id_)}"


class Teller:
    """Tells the endpoints of one service.

    Args:
        jetstream: The store.
        service: The service's name.
        after: Seconds until it is done; 0 for now.
        at: When it is done; None for now.
        id_: By which the stream knows it again, and by which it is cancelled.
        timeout: Longest wait for the stream's word, in seconds.

    Raises:
        ValueError: Both `after` and `at` are given, or `after` is negative or over ten
            years; or `at` has no time zone, or is after 2262-04-11.
    """

    def __init__(
        self,
        jetstream: JetStream,
        service: str,
        *,
        after: float = 0.0,
        at: datetime | None = None,
        id_: str = "",
        timeout: float,
    ) -> None:
        if after and at is not None:
            raise ValueError("a tell is for after= or for at=, not both")
        if not 0 <= after <= _MAX_AFTER:
            raise ValueError(f"after={after!r}: seconds from 0 to ten years")
        if at is not None and at.tzinfo is None:
            raise ValueError(
                f"at={at!r} has no time zone; give datetime.now(UTC) or like"
            )
        if at is not None and at.timestamp() > LAST_TIME:
            raise ValueError(f"at={at!r}: NATS holds times up to 2262-04-11")
        self._jetstream = jetstream
        self._service = service
        self._after = after
        self._at = at
        self._id = id_
        self._timeout = timeout

    async def tell(self, endpoint: str, data: bytes, content_type: str) -> int:
        """Store what an endpoint is told; returns its sequence in the stream.

        Raises:
            FailedPrecondition: No stream stores it.
            InvalidArgument: The id cannot stand in a subject or a header.
        """
        name = f"{self._service}.{endpoint}"
        with sending(name) as show:
            message = self._outgoing(name, data, content_type)
            show(message)
            return await store(self._jetstream, message, self._timeout)

    def _outgoing(self, name: str, data: bytes, content_type: str) -> Outgoing:
        ctx = current()
        own = once_ids.get()
        id_ = self._id or (new_event_id() if own is None else own.next())
        headers = {CONTENT_TYPE: content_type, **carried(ctx)}
        if ctx.endpoint:
            headers[CALLER] = ctx.endpoint
        target = tell_subject(name)
        due = self._due()
        schedule = None if due is None else Schedule.at(due, target)
        subject = target if due is None else later_subject(self._service, id_)
        return Outgoing(
            subject, data, headers, message_id=token_of(id_), schedule=schedule
        )

    def _due(self) -> float | None:
        if self._at is not None:
            return self._at.timestamp()
        return self._jetstream.now() + self._after if self._after else None


async def cancel_tell(jetstream: JetStream, service: str, id_: str) -> bool:
    """Cancel a tell that waits for its time; False if there is none of this id.

    Raises:
        InvalidArgument: The id cannot stand in a subject.
    """
    try:
        stream = await jetstream.stream(tell_stream(service).name)
    except NotFound:
        return False
    return await stream.purge(later_subject(service, id_)) > 0
