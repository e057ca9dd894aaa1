"""A stream between two peers on a bus: items both ways, in bytes.

The first message goes to a subject, as an ask does; the instance that takes it answers
from its own inbox, and from then on both send to each other's.

    open     -> Kit-Stream: open      the peer's inbox, and how much it takes
    items    -> Kit-Seq: 1, 2, 3 ...  as far as the receiver's credit goes
    end      -> Kit-Stream: end       with the status

What is promised: items come once, in order and whole, or the stream ends with an error; a
slow receiver slows its sender, and neither holds more than a window of items; a lost peer
ends it with `Unavailable` within two heartbeats; whoever gives up ends the work of the
other side.  Here is what both ends have in common; how they begin, and who has the last
word, is in `kitmsg.transport.opening`, the messages are in `kitmsg.transport.frames`, the
rules in `docs/protocol.md`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Final, Self

from kitmsg.bus import Bus
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
    ResourceExhausted,
    Unavailable,
)
from kitmsg.message import Message
from kitmsg.transport.frames import (
    BEAT_FRAME,
    CANCEL_FRAME,
    DRAIN_FRAME,
    credit_frame,
    credit_number,
    end_frame,
    item_frame,
    item_number,
    number,
)
from kitmsg.transport.inbox import inbox_of
from kitmsg.transport.replies import decode_error
from kitmsg.transport.windows import Incoming, Outgoing
from kitmsg.wire import CREDIT, SEQ, STREAM

if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["NO_RESPONDERS", "Stream"]

NO_RESPONDERS: Final = 503

# A peer that does not switch within so many renewals is silent, and so lost.
_ALIASES: Final = 3


class Stream:
    """One end of a stream; `kitmsg.transport.opening` makes both.

    Iterate over it for the peer's items; `send` and `finish` are for one's own.  One task
    may iterate while others send.

    Attributes:
        end: The message that ended it, for the headers and fields of an error; None while
            it goes on, and where no message ended it.
        error: What ended it; None while it goes on, and after a good end.
        moved: Items sent and received so far.
        on_cancel: Called when the peer gives up or is lost, with the code that says which.
        on_end: Called once, when it is over.
        on_item: Called with an item at once as it comes; True if it took it.  Those it
            does not take, and those behind them, wait to be iterated over.
    """

    __slots__ = (
        "__weakref__",
        "_aliases",
        "_beat",
        "_bus",
        "_catching_up",
        "_in",
        "_inbox",
        "_is_open",
        "_late",
        "_name",
        "_out",
        "_peer",
        "age",
        "end",
        "error",
        "on_cancel",
        "on_end",
        "on_item",
        "quiet",
        "silent",
        "subject",
    )

    def __init__(self, bus: Bus, name: str, beat: float) -> None:
        self.error: KitError | None = None
        self.end: Message | None = None
        self.on_cancel: Callable[[Code], None] | None = None
        self.on_end: Callable[[], None] | None = None
        self.on_item: Callable[[Message], bool] | None = None
        self.quiet = self.silent = self.age = 0
        self._bus = bus
        self._inbox = inbox_of(bus)
        self.subject = self._inbox.next_subject()
        self._name = name
        self._beat = beat
        self._peer = ""
        self._aliases: deque[str] = deque()
        self._is_open = True
        self._in = Incoming()
        self._out = Outgoing()
        self._late: deque[tuple[bytes, str, bytes]] = deque()
        self._catching_up: asyncio.Task[None] | None = None
        self._inbox.join(self.subject, self)

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

    @property
    def granted(self) -> int:
        """Number of the last item that the peer lets this side send."""
        return self._out.granted

    @property
    def waits_for_reader(self) -> bool:
        """Whether an item is ready that the peer has no room for."""
        return self._out.is_full and len(self._out.waiters) > 0

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
            self._grant()

    def _grant(self) -> None:
        credit = self._in.grant(self._inbox.busy(self))
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
        self._finished(error)

    def _finished(self, error: KitError | None) -> None:
        """Go on, or not, after this side's end."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Give up: the other side stops too.  Harmless when it is over."""
        self.fail(Cancelled("the stream was cancelled"))

    def fail(self, error: KitError) -> None:
        """Give up because of `error`, which both readers and senders here will see."""
        if not self._is_open:
            return
        self._close(error)
        self._say_cancelled()

    def _say_cancelled(self) -> None:
        self._tell(CANCEL_FRAME)

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

    # -- what comes in; called by the inbox ---------------------------------------------

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
            elif message.status == NO_RESPONDERS:
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
        """Take what comes while there is no peer yet."""
        raise NotImplementedError

    def _take_control(self, message: Message) -> None:
        headers = message.headers
        kind = headers.get(STREAM, "")
        if kind == "end":
            self._take_end(message)
        elif kind == "cancel":
            self._let_go()
        elif kind in ("beat", "drain"):
            self._take_word(kind, message.reply)
        elif kind == "open" and message.reply != self._peer:
            self._inbox.refuse(message)
            self._end_by(FailedPrecondition(f"several peers took {self._name}"))
        elif not message.header_block:
            self._end_by(DataLoss(f"{self._name} sends a message without headers"))
        elif CREDIT in headers:
            self._out.grant(number(headers, CREDIT))

    def _take_word(self, kind: str, reply: str) -> None:
        """Send where a heartbeat says; at `drain`, say what was read, and finely so."""
        if kind == "beat":
            if reply and reply != self._peer and self._bus.inboxes.takes(reply):
                self._peer = reply
        elif self._in.granted and not self._in.has_ended:
            self._in.acknowledge_finely()
            self._grant()

    def _let_go(self) -> None:
        """Take the peer's word that it does not go on."""
        raise NotImplementedError

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
        self._take_last(message, error)

    def _take_last(self, message: Message, error: KitError | None) -> None:
        """Go on, or not, after the peer's end, which brought all of its items."""
        raise NotImplementedError

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
            # Not the first subject again: the right to send there may be about to lapse.
            newest = self._aliases[-1] if self._aliases else self.subject
            self._tell(BEAT_FRAME, reply=newest)

    def renew(self) -> None:
        """Have the peer send to another subject; the first one, and the last few, stay."""
        if not self._peer:
            return
        alias = self._inbox.next_subject()
        self._inbox.join(alias, self)
        self._aliases.append(alias)
        if len(self._aliases) > _ALIASES:
            self._inbox.leave(self._aliases.popleft(), self)
        self._tell(BEAT_FRAME, reply=alias)

    def drain(self) -> None:
        """Tell the peer that this side is to stop, so that it says sooner what it read."""
        if self._peer and self._is_open:
            self._tell(DRAIN_FRAME)

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
        elif subject == f"{self._inbox.prefix}*".lower():
            self._end_by(self._inbox.denial())

    def _stop_work(self, code: Code) -> None:
        if self.on_cancel is not None:
            self.on_cancel(code)

    def _close(self, error: KitError | None = None) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self.error = error
        self._inbox.leave(self.subject, self, self._beat)
        for alias in self._aliases:
            self._inbox.leave(alias, self)
        self._in.waiters.wake()
        self._out.waiters.wake()
        if self.on_end is not None:
            self.on_end()
