"""A message that a consumer handed out, and the words that answer it.

Hot path: one is made for each message; its place in the stream is read from the subject of
its acks when somebody asks (NATS ADR-15: ``$JS.ACK.<stream>.<consumer>
.<deliveries>.<sequence>.<consumer sequence>.<time>.<pending>``, with a domain and an
account behind ``$JS.ACK`` where there are such).
"""

from __future__ import annotations

from typing import Final, Self

import msgspec

from kitmsg.bus import Bus
from kitmsg.jetstream.encoding import NS
from kitmsg.message import Headers, Message

__all__ = ["Delivery", "Position", "Stored"]

_ACK: Final = b"+ACK"
_TIMEOUT: Final = 5.0
_PLAIN_TOKENS: Final = 9
_MOST_REASON: Final = 512  # characters of why a message is given up


class Position(msgspec.Struct, frozen=True):
    """The place of a delivery in its stream and consumer.

    Attributes:
        stream: Name of the stream.
        consumer: Name of the consumer.
        deliveries: How often it was delivered, this time included.
        sequence: The message's number in the stream.
        consumer_sequence: The delivery's number.
        time: When the message was stored, in unix seconds.
        pending: Messages behind it that were not delivered yet.
    """

    stream: str
    consumer: str
    deliveries: int
    sequence: int
    consumer_sequence: int
    time: float
    pending: int

    @property
    def identity(self) -> str:
        """The same for each delivery of the message, and for no other message.

        Not for one of a stream that was made again under the same name, either.
        """
        return f"{self.stream}.{self.sequence}.{round(self.time * 1e6)}"

    @classmethod
    def read(cls, reply: str) -> Self:
        """Return the position that the subject of a delivery's acks tells."""
        stream, consumer, deliveries, sequence, own, ns, pending = _tokens(reply)
        return cls(
            stream,
            consumer,
            int(deliveries),
            int(sequence),
            int(own),
            int(ns) / NS,
            int(pending),
        )


def _tokens(reply: str) -> list[str]:
    """Return what the subject of a delivery's acks tells, from the stream on."""
    tokens = reply.split(".")
    return tokens[2:] if len(tokens) == _PLAIN_TOKENS else tokens[4:11]


class Stored(msgspec.Struct, frozen=True, eq=False):
    """A message in a stream, read without a consumer.

    Attributes:
        subject: Where it was published.
        data: The payload.
        headers: Its header fields.
        sequence: Its number in the stream.
        time: When it was stored, in unix seconds.
    """

    subject: str
    data: bytes
    headers: Headers
    sequence: int
    time: float


class Delivery(msgspec.Struct, eq=False):
    """A message of a consumer, to be answered with one of `ack`, `nak` and `term`.

    The first of these counts, and `is_settled` tells that there was one; without any it is
    delivered again.  Each raises `Disconnected` where it cannot be sent: then the message
    comes again, too.

    Attributes:
        message: As the bus brought it; its reply subject is that of the acks.
        is_settled: Whether it was answered.
    """

    # Invariant: `message.reply` is the subject of its acks, given by the server.

    message: Message
    _bus: Bus
    is_settled: bool = False
    _position: Position | None = None
    _glance: tuple[int, float, int] | None = None

    @property
    def subject(self) -> str:
        """The subject that it was published on."""
        return self.message.subject

    @property
    def data(self) -> bytes:
        """The payload."""
        return self.message.data

    @property
    def headers(self) -> Headers:
        """The header fields, parsed once.

        Raises:
            InvalidArgument: The block is malformed.
        """
        return self.message.headers

    @property
    def position(self) -> Position:
        """The place in its stream and consumer."""
        if self._position is None:
            self._position = Position.read(self.message.reply)
        return self._position

    def glance(self) -> tuple[int, float, int]:
        """Return deliveries, time and pending, of `position`.

        Hot path: this is what is looked at for each, and costs a third of all.
        """
        if self._glance is None:
            _, _, deliveries, _, _, ns, pending = _tokens(self.message.reply)
            self._glance = int(deliveries), int(ns) / NS, int(pending)
        return self._glance

    @property
    def sequence(self) -> int:
        """Its number in the stream."""
        return self.position.sequence

    @property
    def deliveries(self) -> int:
        """The number of its deliveries, this one included."""
        return self.glance()[0]

    @property
    def time(self) -> float:
        """The time it was stored at, in unix seconds."""
        return self.glance()[1]

    def ack(self) -> None:
        """Say that it is done.  At most once: see `ack_confirmed`.

        It leaves with those of other messages, at the end of the event loop's turn.
        """
        if not self.is_settled:
            self._bus.acknowledge(self.message, _ACK)
            self.is_settled = True

    async def ack_confirmed(self, timeout: float = _TIMEOUT) -> None:
        """Say that it is done, and wait until the consumer knows.

        Raises:
            DeadlineExceeded: No word in `timeout` seconds; it may come again.
            Disconnected: As this.
        """
        if not self.is_settled:
            await self._bus.request(self.message.reply, _ACK, timeout)
            self.is_settled = True

    def nak(self, delay: float | None = None) -> None:
        """Give it back: it is delivered again, at once or after `delay` seconds."""
        if not self.is_settled:
            text = b"-NAK" if not delay else b'-NAK {"delay":%d}' % round(delay * NS)
            self._bus.respond(self.message, text)
            self.is_settled = True

    def in_progress(self) -> None:
        """Say that it is worked on: the time that it may take begins again."""
        if not self.is_settled:
            self._bus.respond(self.message, b"+WPI")

    def term(self, reason: str = "") -> None:
        """Give it up: it is never delivered again.

        Args:
            reason: For people; the server tells it in an advisory.
        """
        if not self.is_settled:
            text = f"+TERM {reason[:_MOST_REASON]}" if reason else "+TERM"
            self._bus.respond(self.message, text.encode("utf-8", "replace"))
            self.is_settled = True

    def __repr__(self) -> str:
        return f"Delivery({self.subject!r}, {len(self.data)} bytes, {self.position})"
