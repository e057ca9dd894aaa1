"""A stream between two peers on a bus: items both ways, in bytes.

The first message goes to a subject, as an ask does; the instance that takes it answers
from its own inbox, and from then on both send to each other's.

    open     -> Kit-Stream: open      the peer's inbox, and how much it takes
    items    -> Kit-Seq: 1, 2, 3 ...  as far as the receiver's credit goes
    end      -> Kit-Stream: end       with the status

What is promised: items come once, in order and whole, or the stream ends with an error; a
slow receiver slows its sender, and neither holds more than a window of items; a lost peer
ends it with `Unavailable` within two heartbeats; whoever gives up ends the work of the
other side.  `kitmsg.transport.frames` has the messages, `docs/protocol.md` the rules.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Final, Self

from kitmsg.bus.asks import cancel_subject
from kitmsg.codec import JSON
from kitmsg.errors import (
    BusDenied,
    Cancelled,
    Code,
    DataLoss,
    DeadlineExceeded,
    Disconnected,
    FailedPrecondition,
    InvalidArgument,
    KitError,
    NoResponders,
    ResourceExhausted,
    Unavailable,
)
from kitmsg.transport.frames import (
    BEAT,
    BEAT_FRAME,
    BODY,
    CANCEL_FRAME,
    CREDIT,
    SEQ,
    STREAM,
    credit_frame,
    credit_number,
    end_frame,
    item_frame,
    item_number,
    number,
    open_frame,
    with_fields,
)
from kitmsg.transport.hub import hub_of
from kitmsg.transport.windows import FIRST_WINDOW, Incoming, Outgoing
from kitmsg.transport.wire import TIMEOUT, decode_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.bus import Bus
    from kitmsg.message import Message

__all__ = ["HEARTBEAT", "OPEN_TIMEOUT", "Stream", "accept", "open_stream"]

HEARTBEAT: Final = 5.0
"""Seconds between two signs of life."""

OPEN_TIMEOUT: Final = 5.0
"""Seconds in which somebody has to take a new stream."""

_SHORTEST_BEAT: Final = 20  # ms; a shorter one would only make work
_NO_RESPONDERS: Final = 503


class Stream:
    """One end of a stream; `open_stream` and `accept` make one.

    Iterate over it for the peer's items; `send` and `finish` are for one's own.  One task
    may iterate while others send.

    Attributes:
        end: The message that ended it, for the headers and fields of an error; None while
            it goes on, and where no message ended it.
        error: What ended it; None while it goes on, and after a good end.
        moved: Items sent and received so far.
        on_cancel: Called when the peer gives up or is lost, with the code that says which.
        on_item: Called with an item at once as it comes; True if it took it.  Those it
            does not take, and those behind them, wait to be iterated over.
    """

    __slots__ = (
        "__weakref__",
        "_beat",
        "_bus",
        "_catching_up",
        "_hub",
        "_in",
        "_is_client",
        "_is_open",
        "_late",
        "_name",
        "_out",
        "_peer",
        "_timer",
        "end",
        "error",
        "on_cancel",
        "on_item",
        "quiet",
        "silent",
        "subject",
    )

    def __init__(self, bus: Bus, name: str, beat: float, *, is_client: bool) -> None:
        self.error: KitError | None = None
        self.end: Message | None = None
        self.on_cancel: Callable[[Code], None] | None = None
        self.on_item: Callable[[Message], bool] | None = None
        self.quiet = self.silent = 0
        self._bus = bus
        self._hub = hub_of(bus)
        self.subject = self._hub.next_subject()
        self._name = name
        self._beat = beat
        self._is_client = is_client
        self._peer = ""
        self._is_open = True
        self._in = Incoming()
        self._out = Outgoing()
        self._late: deque[tuple[bytes, str, bytes]] = deque()
        self._catching_up: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._hub.join(self.subject, self)

    def __repr__(self) -> str:
        state = "open" if self._is_open else "ended"
        return f"<{state} stream of {self._name}>"

    @property
    def is_open(self) -> bool:
        """Whether it goes on; False once both sides, or one of them, ended it."""
        return self._is_open

    @property
    def moved(self) -> int:
        """Items sent and received so far."""
        return self._out.sent + self._in.received

    # -- items in ------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    def pop(self) -> Message | None:
        """Return the next item of the peer if it is here; None if not, see `anext`."""
        items = self._in.items
        if not items:
            return None
        item = items.popleft()
        self._read()
        return item

    async def __anext__(self) -> Message:
        """Return the next item of the peer.

        Raises:
            StopAsyncIteration: There are no more, and all is well.
            KitError: The stream ended otherwise: `error`.
        """
        incoming = self._in
        while not incoming.items:
            if incoming.has_ended:
                raise StopAsyncIteration
            if not self._is_open:
                raise self._ended()  # from here, so the peer's items are not whole
            await incoming.waiters.wait()
        item = incoming.items.popleft()
        self._read()
        return item

    def _read(self) -> None:
        """Let the peer send more, if there is room now."""
        if self._in.read() and self._is_open:
            credit = self._in.grant(self._hub.busy(self))
            if credit:
                self._tell(credit_frame(credit))

    # -- items out -----------------------------------------------------------------

    async def send(self, data: bytes) -> None:
        """Send one item, when the peer has room for it.

        Raises:
            KitError: The stream ended, with `error` if it was one; or the bus cannot
                carry the item: `InvalidArgument` for one over its `max_payload`.
        """
        while not self.push(data):
            if self._out.is_full or self._late:
                await self._out.waiters.wait()
            else:
                with contextlib.suppress(DeadlineExceeded):  # it is just slow
                    await self._bus.flush()

    def push(self, data: bytes) -> bool:
        """Send one item at once, if the peer and the bus have room for it.

        Returns:
            False if they have not: `send` would wait.

        Raises:
            KitError: As `send`.
        """
        out = self._out
        if out.has_ended or not self._is_open:
            raise self._ended()
        if out.is_full or self._late or self._bus.is_busy:
            return False
        try:
            self._bus.publish(self._peer, data, "", item_frame(out.sent + 1))
        except ResourceExhausted:
            return False
        out.sent += 1
        self.quiet = 0
        return True

    async def finish(self) -> None:
        """Say that there are no more items from here.  The peer's may still come."""
        self.finish_with()

    def finish_with(
        self, data: bytes = b"", block: bytes = b"", error: KitError | None = None
    ) -> None:
        """Say that there are no more items from here, and why.

        For the serving side this is the end of the stream.

        Args:
            data: Payload of an error.
            block: Its header block, or that of a good end; b"" for no headers.
            error: What readers and senders on this side see from now on, if it is one.

        Raises:
            InvalidArgument: It is longer than the bus carries; nothing was sent.
        """
        if self._out.has_ended or not self._is_open:
            return
        frame = end_frame(self._out.sent, block)
        size, most = len(frame) + len(data), self._bus.max_payload
        if size > most:
            raise InvalidArgument(
                f"the end of {self._name} is {size} bytes; the bus carries {most}"
            )
        self._out.has_ended = True
        self._tell(frame, data)
        if self._is_client:
            self._out.waiters.wake()
        else:
            self._close(error)

    def cancel(self) -> None:
        """Give up: the other side stops too.  Harmless when it is over."""
        self.fail(Cancelled("the stream was cancelled"))

    def fail(self, error: KitError) -> None:
        """Give up because of `error`, which both readers and senders here will see."""
        if not self._is_open:
            return
        self._close(error)
        if self._peer:
            self._tell(CANCEL_FRAME)
        elif self._is_client:
            self._withdraw()

    def _withdraw(self) -> None:
        """Tell whoever may have the request that nobody waits for it."""
        try:
            subject = cancel_subject(self._name)
            self._bus.publish(subject, self.subject.encode())
        except KitError:
            return

    def _ended(self) -> KitError:
        """Return what to say to somebody who goes on with a stream that is over."""
        if self.error is not None:
            return self.error
        if self._out.has_ended and self._is_open:
            return FailedPrecondition(f"no more can be sent to {self._name}: finished")
        return FailedPrecondition(f"the stream of {self._name} is over")

    def _tell(self, block: bytes, data: bytes = b"", reply: str = "") -> None:
        self.quiet = 0
        try:
            if not self._late:
                self._bus.publish(self._peer, data, reply, block)
                return
        except ResourceExhausted:
            self._catching_up = asyncio.create_task(self._catch_up())
        except KitError as error:
            self._break(error)
            return
        self._late.append((data, reply, block))

    async def _catch_up(self) -> None:
        """Send what the bus had no room for, in order."""
        try:
            while self._late:
                data, reply, block = self._late[0]
                with contextlib.suppress(ResourceExhausted, DeadlineExceeded):
                    await self._bus.flush()
                    self._bus.publish(self._peer, data, reply, block)
                    self._late.popleft()
        except KitError as error:
            self._late.clear()
            self._break(error)
        self._out.waiters.wake()

    # -- what comes in; called by the hub ---------------------------------------------

    def take(self, message: Message) -> None:
        """Take a frame from the peer, whatever it is.  Hot path: runs for every item."""
        seq = item_number(message.header_block)
        if not self._is_open or (seq and self._in.has_ended):
            return
        if seq and self._peer:
            self._take_item(seq, message)
            return
        credit = credit_number(message.header_block)
        if credit and self._peer:
            self._out.grant(credit)
            return
        try:
            if not self._peer:
                self._take_first(message)
            elif message.status == _NO_RESPONDERS:
                self.lost("the peer is gone")
            else:
                self._take_control(message)
        except InvalidArgument as exc:  # its headers are malformed
            self._end_by(DataLoss(f"{self._name} sends what is no frame: {exc}"))

    def _take_item(self, seq: int, message: Message) -> None:
        incoming = self._in
        message.is_plain = True  # it has its number and nothing else
        try:
            incoming.count(seq, len(message.data), self._name)
        except KitError as broken:
            self._end_by(broken)
            return
        if self.on_item is None or incoming.items or not self.on_item(message):
            incoming.put(message)
        else:
            self._read()

    def _end_by(self, error: KitError) -> None:
        """End because the peer broke a rule."""
        self.fail(error)
        self._stop_work(error.code)

    def _break(self, error: KitError) -> None:
        """End because nothing can be sent any more, not even that."""
        if self._is_open:
            self._close(error)
            self._stop_work(error.code)

    def _take_first(self, message: Message) -> None:
        """Take the answer to the request: the stream's opening, or one plain reply."""
        headers = message.headers
        if message.status == _NO_RESPONDERS:
            self._close(NoResponders(self._name))
        elif headers.get(STREAM) == "open" and message.reply:
            self._peer = message.reply
            self._hub.watch(self, self._beat)
            self._out.grant(number(headers, CREDIT))
            self._in.waiters.wake()
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

    def _take_control(self, message: Message) -> None:
        headers = message.headers
        kind = headers.get(STREAM, "")
        if kind == "end":
            self._take_end(message)
        elif kind == "cancel":
            self._let_go()
        elif kind == "open" and message.reply != self._peer:
            self._hub.refuse(message)
            self._end_by(FailedPrecondition(f"several peers took {self._name}"))
        elif not message.header_block:
            self._end_by(DataLoss(f"{self._name} sends a message without headers"))
        elif CREDIT in headers:
            self._out.grant(number(headers, CREDIT))

    def _let_go(self) -> None:
        """Take the peer's word that it does not go on."""
        if self._is_client:
            self._close(Unavailable(f"{self._name} has let go of the stream"))
            return
        self._close(Cancelled(f"the caller of {self._name} gave up"))
        self._stop_work(Code.CANCELLED)

    def _take_end(self, message: Message) -> None:
        sent = number(message.headers, SEQ)
        error = self._error_in(message)
        received = self._in.received
        if error is None and sent != received:
            lost = f"{sent - received} items of {self._name} were lost"
            if sent < received:
                lost = f"{self._name} sent {received} items and says {sent}"
            self._end_by(DataLoss(lost))
            return
        if error is not None and not self._is_client:  # a caller has no such word
            self._let_go()
            return
        self.end = message
        self._in.has_ended = error is None
        if self._is_client:  # the service has the last word
            self._close(error)
        else:
            self._in.waiters.wake()

    @staticmethod
    def _error_in(message: Message) -> KitError | None:
        try:
            error = decode_error(message, codec=JSON, declared={})
        except KitError as broken:
            error = broken
        return error if isinstance(error, KitError) else None

    def beat(self) -> None:
        """Tell the peer that this side is there; one that is gone is heard of at once."""
        if self._peer:
            self._tell(BEAT_FRAME, reply=self.subject)

    def lost(self, why: str) -> None:
        """End: the peer, or the bus, is gone."""
        if not self._is_open:
            return
        if self._bus.is_connected:
            self.fail(Unavailable(f"{self._name}: {why}"))
        else:
            self._close(Disconnected(f"{self._name}: {why}", sent=True))
        self._stop_work(Code.UNAVAILABLE)

    def denied(self, subject: str) -> None:
        """End, if it needs a subject that the server forbids."""
        if subject in (self._name.lower(), self.subject.lower()):
            what = f"this NATS user may not send to {self._name!r}"
            self._end_by(BusDenied(what))
        elif self._peer and subject == self._peer.lower():
            what = f"this NATS user may not send to the other side of {self._name}"
            self._end_by(BusDenied(what))
        elif subject == f"{self._hub.prefix}*".lower():
            self._end_by(self._hub.denial())

    def _stop_work(self, code: Code) -> None:
        if self.on_cancel is not None:
            self.on_cancel(code)

    def _close(self, error: KitError | None = None) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self.error = error
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._hub.leave(self.subject, self, self._beat)
        self._in.waiters.wake()
        self._out.waiters.wake()

    # -- opening ---------------------------------------------------------------------

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

    def request(self, data: bytes, block: bytes) -> None:
        """Send the message that asks for the stream."""
        self._in.granted = FIRST_WINDOW
        fields = {
            STREAM: "open",
            CREDIT: str(FIRST_WINDOW),
            BEAT: str(int(self._beat * 1000)),
        }
        try:
            self._bus.publish(
                self._name, data, self.subject, with_fields(block, fields)
            )
        except BaseException:
            self._close()
            raise

    def answer(self, message: Message, *, takes_items: bool) -> None:
        """Take a stream that `message` asks for."""
        self._peer = message.reply
        self._hub.watch(self, self._beat)
        self._out.grant(number(message.headers, CREDIT))
        self._in.granted = FIRST_WINDOW if takes_items else 0
        self._tell(open_frame(self._in.granted), reply=self.subject)
        if self.error is not None:
            raise self.error


async def open_stream(
    bus: Bus,
    subject: str,
    data: bytes,
    block: bytes = b"",
    *,
    timeout: float | None = None,
    open_timeout: float = OPEN_TIMEOUT,
    heartbeat: float = HEARTBEAT,
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
        block = with_fields(block, {TIMEOUT: str(int(timeout * 1000) or 1)})
        open_timeout = min(open_timeout, timeout)
    stream = Stream(bus, subject, heartbeat, is_client=True)
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
            or the reply subject is malformed.
        Disconnected: There is no connection.
    """
    milliseconds = number(message.headers, BEAT) if BEAT in message.headers else 5000
    if milliseconds < _SHORTEST_BEAT:
        raise InvalidArgument(
            f"header {BEAT} must be whole milliseconds from {_SHORTEST_BEAT}",
            field=BEAT,
        )
    stream = Stream(bus, name, milliseconds / 1000, is_client=False)
    stream.answer(message, takes_items=takes_items)
    return stream
