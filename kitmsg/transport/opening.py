"""Handshake of a stream, and its two ends.

`open_stream` asks for one and `accept` takes one.  The service's end is the stream's end;
the caller's only says that it sends no more.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from kitmsg.bus import Bus
from kitmsg.errors import (
    Cancelled,
    Code,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    KitError,
    NoResponders,
    Unavailable,
)
from kitmsg.transport.frames import number, open_frame
from kitmsg.transport.stream import NO_RESPONDERS, Stream
from kitmsg.transport.windows import FIRST_WINDOW
from kitmsg.wire import (
    BEAT,
    BODY,
    BODY_BYTES,
    CREDIT,
    SEQ,
    STREAM,
    TIMEOUT,
    cancel_subject,
    milliseconds,
    with_fields,
)

if TYPE_CHECKING:
    from kitmsg.message import Message

__all__ = ["HEARTBEAT", "OPEN_TIMEOUT", "Body", "accept", "open_stream"]

HEARTBEAT: Final = 5.0
"""Seconds between two signs of life."""

OPEN_TIMEOUT: Final = 5.0
"""Seconds in which somebody has to take a new stream."""

_SHORTEST_BEAT: Final = 20  # ms; a shorter one would only make work


class Body(Protocol):
    """Body of a request that is fetched by the service that takes it."""

    @property
    def size(self) -> int:
        """Length, in bytes."""
        ...

    def take(self, message: Message, /) -> None:
        """Send it to whoever asks with `message`."""
        ...


class _Calling(Stream):
    """The caller's end."""

    __slots__ = ("_body", "_timer")

    def __init__(self, bus: Bus, name: str, beat: float, body: Body | None) -> None:
        super().__init__(bus, name, beat)
        self._body = body
        self._timer: asyncio.TimerHandle | None = None

    def request(self, data: bytes, block: bytes) -> None:
        """Send the message that asks for the stream."""
        self._in.granted = FIRST_WINDOW
        fields = {
            STREAM: "open",
            CREDIT: str(FIRST_WINDOW),
            BEAT: str(int(self._beat * 1000)),
        }
        if self._body is not None:
            fields |= {BODY: self.subject, BODY_BYTES: str(self._body.size)}
        try:
            self._bus.publish(
                self._name, data, self.subject, with_fields(block, fields)
            )
        except BaseException:
            self._close()
            raise

    async def opened(self, timeout: float) -> None:
        """Wait until somebody took the stream.

        Raises:
            KitError: Nobody did, or it was refused.
        """
        try:
            async with asyncio.timeout(timeout):
                while self._is_open and not self._peer:
                    await self._in.waiters.wait()
        except TimeoutError:
            late = DeadlineExceeded(f"nobody took {self._name!r} in {timeout:g} s")
            self.fail(late)
            raise late from None
        except BaseException:
            self.cancel()
            raise
        if self.error is not None and not self._peer:
            raise self.error

    def end_at(self, deadline: float) -> None:
        """Give up when the loop's clock shows `deadline`, whatever the peer does."""
        if self._is_open:
            loop = asyncio.get_running_loop()
            late = DeadlineExceeded(f"{self._name} took too long")
            self._timer = loop.call_at(deadline, self.fail, late)

    def _finished(self, error: KitError | None) -> None:
        self._out.waiters.wake()

    def _say_cancelled(self) -> None:
        if self._peer:
            super()._say_cancelled()
        else:
            self._withdraw()

    def _withdraw(self) -> None:
        """Tell whoever may have the request that nobody waits for it."""
        if self._bus.inboxes.is_inbox(self._name):
            return  # a body's, and not a service's
        try:
            subject = cancel_subject(self._name)
            self._bus.publish(subject, self.subject.encode())
        except KitError:
            return

    def _take_first(self, message: Message) -> None:
        """Take the answer to the request: the stream's opening, or one plain reply."""
        headers = message.headers
        if message.status == NO_RESPONDERS:
            self._close(NoResponders(self._name))
        elif headers.get(STREAM) == "open" and message.reply:
            self._meet(message)
        elif headers.get(STREAM) == "end":
            self._take_end(message)
        elif headers.get(STREAM) == "cancel":
            self._let_go()
        elif SEQ in headers:
            self._end_by(DataLoss(f"{self._name} sends items before it takes a stream"))
        else:
            error = self._error_in(message)
            if BODY in headers:
                error = FailedPrecondition(
                    f"{self._name} answers with one long reply: ask, instead of streaming"
                )
            elif error is None:  # one reply, of a service that knows no streams
                self._in.put(message)
            self.end = message
            self._in.has_ended = error is None
            self._close(error)

    def _meet(self, message: Message) -> None:
        """Go on with the instance that took the stream, at its inbox."""
        if self._body is not None and BODY in message.headers:
            self._body.take(message)  # it wants to have the request first
            return
        peer, credit = message.reply, number(message.headers, CREDIT)
        if not self._bus.inboxes.takes(peer):
            self._close(DataLoss(f"{self._name} takes streams on what is no inbox"))
            return
        self._peer = peer
        self._inbox.watch(self, self._beat)
        self._out.grant(credit)
        self._in.waiters.wake()

    def _take_last(self, message: Message, error: KitError | None) -> None:
        self.end = message
        self._in.has_ended = error is None
        self._close(error)

    def _let_go(self) -> None:
        self._close(Unavailable(f"{self._name} has let go of the stream"))

    def _close(self, error: KitError | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super()._close(error)


class _Serving(Stream):
    """The service's end."""

    __slots__ = ()

    def answer(self, message: Message, *, takes_items: bool) -> None:
        """Take a stream that `message` asks for."""
        self._peer = message.reply
        self._inbox.watch(self, self._beat)
        self._out.grant(number(message.headers, CREDIT))
        self._in.granted = FIRST_WINDOW if takes_items else 0
        self._tell(open_frame(self._in.granted), reply=self.subject)
        if self.error is not None:
            raise self.error

    def _finished(self, error: KitError | None) -> None:
        self._close(error)

    def _take_last(self, message: Message, error: KitError | None) -> None:
        if error is not None:  # a caller has no such word
            self._let_go()
            return
        self.end = message
        self._in.has_ended = True
        self._in.waiters.wake()

    def _let_go(self) -> None:
        self._close(Cancelled(f"the caller of {self._name} gave up"))
        self._stop_work(Code.CANCELLED)


async def open_stream(
    bus: Bus,
    subject: str,
    data: bytes,
    block: bytes = b"",
    *,
    timeout: float | None = None,
    open_timeout: float = OPEN_TIMEOUT,
    heartbeat: float = HEARTBEAT,
    body: Body | None = None,
) -> Stream:
    """Ask for a stream; returns when a service took it.

    A service that knows no streams and just replies gives a stream of one item.

    Args:
        bus: What carries it.
        subject: Where the endpoint is served.
        data: Payload of the request.
        block: Header block of the request, as for `Bus.request`.
        timeout: Seconds that the whole stream may take; None for as long as it likes.
            It ends then with `DeadlineExceeded`, whether the service keeps it or not.
        open_timeout: Seconds in which somebody has to take it.
        heartbeat: Seconds between two signs of life; a peer that is silent for two of
            them is lost.
        body: Of the request, where it is too long for one message; `data` is empty then.

    Raises:
        NoResponders: Nobody is subscribed to `subject`.
        DeadlineExceeded: Nobody took it in time.
        Disconnected: No connection, or lost while waiting.
        KitError: The service refused; see `Bus.request` for the rest.
    """
    end = 0.0
    if timeout is not None:
        end = asyncio.get_running_loop().time() + timeout
        if not timeout > 0:
            raise DeadlineExceeded(f"no time left to ask {subject!r}")
        block = with_fields(block, {TIMEOUT: str(milliseconds(timeout))})
        open_timeout = min(open_timeout, timeout)
    stream = _Calling(bus, subject, heartbeat, body)
    stream.request(data, block)
    await stream.opened(open_timeout)
    if timeout is not None:
        stream.end_at(end)
    return stream


def accept(bus: Bus, message: Message, name: str, *, takes_items: bool) -> Stream:
    """Take a stream that `message` asks for, and tell the caller.

    Args:
        bus: What carries it.
        message: The request; it has a reply subject and ``Kit-Stream: open``.
        name: Of the endpoint, for messages.
        takes_items: Whether the caller may send items.

    Raises:
        InvalidArgument: ``Kit-Heartbeat`` is not a whole number of milliseconds from 20,
            or the reply subject is no inbox.
        Disconnected: There is no connection.
    """
    milliseconds = number(message.headers, BEAT) if BEAT in message.headers else 5000
    if milliseconds < _SHORTEST_BEAT:
        raise InvalidArgument(
            f"header {BEAT} must be whole milliseconds from {_SHORTEST_BEAT}",
            field=BEAT,
        )
    if not bus.inboxes.takes(message.reply):
        raise InvalidArgument(f"a stream of {name} needs an inbox as its reply subject")
    stream = _Serving(bus, name, milliseconds / 1000)
    stream.answer(message, takes_items=takes_items)
    return stream
