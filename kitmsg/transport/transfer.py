"""Requests and replies that are longer than the bus can carry in one message.

The message itself goes without its body and says where that is: ``Kit-Body`` names an
inbox that streams it to whoever asks there, ``Kit-Body-Bytes`` says how long it is.  The
receiver fetches it, and goes on as if it had come at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import weakref
from typing import TYPE_CHECKING, Any, Final

from kitmsg.errors import (
    BusDenied,
    Cancelled,
    DataLoss,
    DeadlineExceeded,
    Disconnected,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    KitError,
    NoResponders,
    ResourceExhausted,
    Unavailable,
)
from kitmsg.message import Message, encode_headers
from kitmsg.transport.frames import CANCEL_FRAME, number
from kitmsg.transport.inbox import inbox_of
from kitmsg.transport.opening import accept, open_stream
from kitmsg.transport.stream import NO_RESPONDERS
from kitmsg.wire import (
    BODY,
    BODY_BYTES,
    STREAM,
    STREAM_INBOX,
    TIMEOUT,
    cancel_subject,
    milliseconds,
    with_fields,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kitmsg.bus import Bus
    from kitmsg.transport.stream import Stream

__all__ = [
    "MAX_BYTES",
    "Fetcher",
    "ask",
    "fetch",
    "is_elsewhere",
    "moved",
    "offered",
    "open_large",
    "request",
    "respond_long",
]

MAX_BYTES: Final = 64 << 20
"""Longest request or reply, unless a service or a client says otherwise."""

_log = logging.getLogger("kitmsg.transport")

_MARK: Final = b"\r\nkit-body:"
_CHUNK: Final = 256 << 10
_ITEM_ROOM: Final = 64  # for the header of an item
_HEADER_ROOM: Final = 1024
_BUSY_SECONDS: Final = 1.0
_CLAIM_SECONDS: Final = 10.0  # for whoever is offered a body to ask for it


def is_elsewhere(block: bytes) -> bool:
    """Tell whether a message with this header block has its body elsewhere."""
    return _MARK in block.lower()


class _Offer:
    """A body that waits at an inbox for somebody to fetch it.

    Attributes:
        subject: Where.
        size: Of the body, in bytes.
        fetched: Done when it was sent whole, or cannot be.
    """

    def __init__(self, bus: Bus, data: bytes) -> None:
        self.quiet = self.silent = self.age = 0
        self.size = len(data)
        self._bus = bus
        self._data = data
        self._inbox = inbox_of(bus)
        self._stream: Stream | None = None
        self._sending: asyncio.Task[None] | None = None
        self.subject = self._inbox.next_subject()
        self._asked = ""
        self._reply: asyncio.Future[Message] | None = None
        loop = asyncio.get_running_loop()
        self.fetched = loop.create_future()
        self._unclaimed = loop.call_later(_CLAIM_SECONDS, self.lost, "")
        self._inbox.join(self.subject, self)

    async def ask(self, subject: str, timeout: float, block: bytes) -> Message:
        """Send a request without its body; the body is fetched where the reply goes.

        So a service needs no right to publish to its callers' inboxes, but to answer.

        Raises:
            KitError: As `Bus.request`.
        """
        self._asked = subject
        self._reply = asyncio.get_running_loop().create_future()
        fields = {BODY: self.subject, BODY_BYTES: str(self.size)}
        self._bus.publish(subject, b"", self.subject, with_fields(block, fields))
        try:
            async with asyncio.timeout(timeout):
                return await self._reply
        except TimeoutError:
            self._take_back()
            late = f"no reply from {subject!r} in {timeout:.3g} s"
            raise DeadlineExceeded(late) from None
        except asyncio.CancelledError:
            self._take_back()
            raise

    def _take_back(self) -> None:
        with contextlib.suppress(KitError):
            self._bus.publish(cancel_subject(self._asked), self.subject.encode())

    def _answer(self, message: Message) -> bool:
        """Take the reply to `ask`; False if this is none."""
        if self._reply is None or STREAM in message.headers:
            return False
        if not self._reply.done():
            if message.status == NO_RESPONDERS:
                self._reply.set_exception(NoResponders(self._asked))
            else:
                self._reply.set_result(message)
        return True

    def take(self, message: Message) -> None:
        """Begin to send to whoever asks first, and take the reply."""
        try:
            if self._answer(message):
                return
            kind = message.headers.get(STREAM)
            if kind == "cancel":
                self.lost("")
                return
            if self._stream is None and kind == "open":
                stream = accept(self._bus, message, self.subject, takes_items=False)
                self._stream = stream
                self._unclaimed.cancel()
                self._sending = asyncio.create_task(self._send(stream))
                return
        except KitError as exc:
            _log.debug("%s was asked for in no good way: %s", self.subject, exc)
        self._inbox.refuse(message)

    async def _send(self, stream: Stream) -> None:
        data = memoryview(self._data)
        chunk = max(1, min(_CHUNK, self._bus.max_payload - _ITEM_ROOM))
        try:
            for at in range(0, len(data), chunk):
                await stream.send(bytes(data[at : at + chunk]))
            await stream.finish()
        except KitError:
            return  # whoever fetches has heard of it, or is gone
        finally:
            if not self.fetched.done():
                self.fetched.set_result(None)

    def beat(self) -> None:
        """Not watched: the ask that goes with it has its own time."""

    def renew(self) -> None:
        """Not watched, as above."""

    def lost(self, why: str) -> None:
        """Give up: the bus is gone, or nobody came."""
        if not self.fetched.done():
            self.fetched.set_result(None)
        if why and self._reply is not None and not self._reply.done():
            self._reply.set_exception(Disconnected(why, sent=True))

    def denied(self, subject: str) -> None:
        """End the ask, if the server forbids it."""
        if self._reply is None or self._reply.done():
            return
        if subject == self._asked.lower():
            denial = BusDenied(f"this NATS user may not send to {self._asked!r}")
            self._reply.set_exception(denial)
        elif subject == f"{self._inbox.prefix}*".lower():
            self._reply.set_exception(self._inbox.denial())

    def withdraw(self) -> None:
        """Take it back; who is still fetching it is told."""
        self._inbox.leave(self.subject, self)
        self._unclaimed.cancel()
        if self._stream is not None:
            self._stream.cancel()
        if self._sending is not None:
            self._sending.cancel()


@contextlib.contextmanager
def offered(bus: Bus, data: bytes) -> Iterator[_Offer]:
    """Let `data` be fetched from an inbox as long as the context lasts."""
    offer = _Offer(bus, data)
    try:
        yield offer
    finally:
        offer.withdraw()


def moved(block: bytes, offer: _Offer, size: int) -> bytes:
    """Return a header block that says where the body is."""
    return with_fields(block, {BODY: offer.subject, BODY_BYTES: str(size)})


async def ask(
    bus: Bus,
    subject: str,
    data: bytes,
    timeout: float,
    block: bytes,
    *,
    max_bytes: int = MAX_BYTES,
) -> Message:
    """Ask with a body elsewhere; so may that of the reply be.

    Raises:
        InvalidArgument: `data` is longer than `max_bytes`.
        KitError: As `Bus.request`.
    """
    check_size(len(data), "the request", max_bytes)
    with offered(bus, data) as offer:
        return await offer.ask(subject, timeout, block)


async def respond_long(
    bus: Bus, message: Message, data: bytes, header_block: bytes
) -> KitError | None:
    """Answer with what is too long for one message; returns what went wrong."""
    try:
        with offered(bus, data) as offer:
            # With where it is as reply subject: who may answer may fetch.
            block = moved(header_block, offer, len(data))
            bus.publish(message.reply, b"", offer.subject, block)
            await offer.fetched
    except KitError as exc:
        return exc
    return None


async def request(
    bus: Bus,
    subject: str,
    data: bytes,
    timeout: float,
    block: bytes = b"",
    *,
    max_bytes: int = MAX_BYTES,
) -> Message:
    """Ask as `Bus.request` does, with requests and replies of up to `max_bytes`.

    Raises:
        InvalidArgument: `data`, or the reply, is longer than that.
        KitError: As `Bus.request`.
    """
    end = asyncio.get_running_loop().time() + timeout
    if len(data) + len(block) <= bus.max_payload:
        reply = await bus.request(subject, data, timeout, block)
    else:
        reply = await ask(bus, subject, data, timeout, block, max_bytes=max_bytes)
    if is_elsewhere(reply.header_block):
        left = end - asyncio.get_running_loop().time()
        return await fetch(bus, reply, left, "the reply", max_bytes)
    return reply


async def open_large(
    bus: Bus, subject: str, data: bytes, block: bytes, **options: Any
) -> Stream:
    """Ask for a stream as `open_stream` does, with a request of up to 64 MB."""
    if len(data) + len(block) + _HEADER_ROOM <= bus.max_payload:
        return await open_stream(bus, subject, data, block, **options)
    check_size(len(data), "the request", MAX_BYTES)
    with offered(bus, data) as offer:
        return await open_stream(bus, subject, b"", block, body=offer, **options)


def check_size(size: int, what: str, most: int) -> None:
    """Refuse what is over `most` bytes.

    Raises:
        InvalidArgument: It is.
    """
    if size > most:
        raise InvalidArgument(f"{what} is {size} bytes; at most {most} are taken")


async def fetch(
    bus: Bus, message: Message, timeout: float, what: str, max_bytes: int
) -> Message:
    """Return `message` with the body that it says is elsewhere.

    Args:
        bus: What it came over.
        message: Whose body to fetch.
        timeout: Longest time for it, in seconds.
        what: ``the request`` or ``the reply``, for errors.
        max_bytes: Longest body.

    Raises:
        DeadlineExceeded: It took longer.
        DataLoss: It is not as long as was said, or not at an inbox.
        InvalidArgument: It is too long.
        Unavailable: Its sender is gone.
        Disconnected: The bus is; `sent` is True, since `message` came.
    """
    size = number(message.headers, BODY_BYTES)
    where = message.headers.get(BODY, "")
    if not bus.inboxes.takes(where):
        raise DataLoss(f"{what} cannot be had: header {BODY} must name an inbox")
    if size > max_bytes:
        with contextlib.suppress(KitError):  # whoever offers it need not wait
            bus.publish(where, b"", "", CANCEL_FRAME)
    check_size(size, what, max_bytes)
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout
    try:
        async with asyncio.timeout(timeout):
            body = await _parts(bus, where, size)
    except Disconnected as exc:
        exc.sent = True
        raise
    except TimeoutError:
        late = f"{what} of {size} bytes did not come in time"
        raise DeadlineExceeded(late) from None
    if len(body) != size:
        raise DataLoss(f"{what} has {len(body)} bytes or more, not {size} as it says")
    block = _here(message, end - loop.time())
    return _Large(message.subject, bytes(body), message.reply, block)


async def _parts(bus: Bus, where: str, size: int) -> bytearray:
    """Return the body that is offered at `where`; what is over `size` may be missing."""
    body = bytearray()
    # Where a stream is asked for, its caller tells this from the opening.
    stream = await open_stream(bus, where, b"", encode_headers({BODY: where}))
    try:
        async for part in stream:
            body += part.data
            if len(body) > size:
                break
    finally:
        stream.cancel()
    return body


def _here(message: Message, left: float) -> bytes:
    """Return the header block of a message whose body has come, `left` seconds to go."""
    taken = {BODY.lower(), BODY_BYTES.lower(), TIMEOUT.lower()}
    fields = {n: v for n, v in message.headers.pairs() if n.lower() not in taken}
    if TIMEOUT in message.headers:
        fields[TIMEOUT] = str(milliseconds(max(0.0, left)))
    return encode_headers(fields)


class _Large(Message, weakref=True):
    """A message with a long body: it can be told when nobody has it any more."""


class Fetcher:
    """Fetches the bodies of the requests that come to a service.

    Args:
        bus: What they come over.
        max_bytes: Longest body.
        budget: Bytes of such bodies that may be here at once, being fetched or worked on;
            whoever asks for more is refused.  By default four of the longest.
    """

    def __init__(
        self, bus: Bus, *, max_bytes: int = MAX_BYTES, budget: int = 0
    ) -> None:
        self._bus = bus
        self._max_bytes = max_bytes
        self._left = budget or 4 * max_bytes
        self._tasks: dict[str, asyncio.Task[Message]] = {}
        self._is_stopping = False

    def start(
        self,
        message: Message,
        timeout: float,
        then: Callable[[Message], None],
        refuse: Callable[[Message, KitError], None],
    ) -> None:
        """Fetch the body of a request.

        Args:
            message: The request.
            timeout: Seconds that its caller gives.
            then: Called with the whole request.
            refuse: Called if it cannot be had.
        """
        try:
            size = self._check(message)
        except KitError as exc:
            refuse(message, exc)
            return
        self._left -= size
        task = asyncio.get_running_loop().create_task(
            fetch(self._bus, message, timeout, "the request", self._max_bytes)
        )
        self._tasks[message.reply] = task
        # Not at the end of the task: one that is cancelled at once never begins.
        done = functools.partial(self._fetched, message, size, then, refuse)
        task.add_done_callback(done)

    def cancel(self, reply: str) -> bool:
        """Stop fetching for the ask with this reply subject; False if there is none."""
        task = self._tasks.get(reply)
        return task is not None and task.cancel()

    async def drain(self, timeout: float) -> None:
        """Take no more, wait at most `timeout` seconds for the rest, and refuse that."""
        self._is_stopping = True
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=timeout)
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    def _check(self, message: Message) -> int:
        size = number(message.headers, BODY_BYTES)
        check_size(size, "the request", self._max_bytes)
        if self._is_stopping:
            raise Unavailable("the service is stopping")
        if message.reply in self._tasks:
            raise FailedPrecondition("the body of this request is on its way already")
        # A service must not be made to speak to whomever a stranger names.
        inbox = message.reply.rpartition(".")[0].removesuffix(STREAM_INBOX)
        where = message.headers.get(BODY, "")
        if not inbox or not where.startswith(f"{inbox}{STREAM_INBOX}."):
            raise InvalidArgument(
                f"header {BODY} must name an inbox of the caller", field=BODY
            )
        if size > self._left:
            raise ResourceExhausted(
                "too many long requests at once", retry_after=_BUSY_SECONDS
            )
        return size

    def _fetched(
        self,
        message: Message,
        size: int,
        then: Callable[[Message], None],
        refuse: Callable[[Message, KitError], None],
        task: asyncio.Task[Message],
    ) -> None:
        del self._tasks[message.reply]
        if not task.cancelled() and task.exception() is None:
            whole = task.result()
            weakref.finalize(whole, self._release, size)
            then(whole)
            return
        self._left += size
        error = None if task.cancelled() else task.exception()
        if isinstance(error, KitError):
            refuse(message, error)
        elif error is not None:
            _log.error("the body of a request was not fetched", exc_info=error)
            refuse(message, Internal("the body of the request could not be fetched"))
        elif self._is_stopping:
            refuse(message, Unavailable("the service is stopping"))
        else:
            refuse(message, Cancelled("the request was cancelled"))

    def _release(self, size: int) -> None:
        self._left += size
