"""Batches that are stored as one (NATS ADR-50)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kitmsg.jetstream.twin.refusal import Refusal
from kitmsg.message import Headers
from kitmsg.wire import Js

if TYPE_CHECKING:
    from kitmsg.jetstream.twin.clock import Clock
    from kitmsg.jetstream.twin.stream import Stream
    from kitmsg.message import Message

__all__ = ["Batches"]

_IDLE: Final = 10.0  # seconds after which one that is not ended is forgotten


class Batches:
    """The batches of one stream that are not ended yet."""

    def __init__(self, stream: Stream, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._open: dict[str, tuple[float, list[Message]]] = {}

    def take(self, message: Message, headers: Headers) -> dict[str, Any] | None:
        """Keep a message of a batch; return the acknowledgement of one that is stored.

        Raises:
            Refusal: The batch is incomplete, or one of it cannot be stored: none is.
        """
        if not self._stream.config.allow_atomic:
            raise Refusal(10174)
        batch, number = headers[Js.BATCH_ID], headers.get(Js.BATCH_SEQUENCE, "")
        now = self._clock.now()
        begun, kept = self._open.pop(batch, (now, []))
        if number != str(len(kept) + 1) or now - begun > _IDLE:
            raise Refusal(10176)
        kept.append(message)
        if Js.BATCH_COMMIT not in headers:
            self._open[batch] = now, kept
            return None
        return self._commit(kept) | {"batch": batch, "count": len(kept)}

    def _commit(self, kept: list[Message]) -> dict[str, Any]:
        stream = self._stream
        ready = [(message, message.headers) for message in kept]
        ahead: dict[str, int] = {}
        for number, (message, headers) in enumerate(ready, 1):
            size = len(message.header_block) + len(message.data)
            stream.check(message.subject, headers, size)
            if stream.known(headers) is not None:
                raise Refusal(10201)
            stream.expects(message.subject, headers, ahead)
            ahead[message.subject] = stream.log.last + number
        sequence = 0
        for message, headers in ready:
            sequence = stream.put(
                message.subject, message.header_block, message.data, headers
            )
        return {"stream": stream.config.name, "seq": sequence}
