"""The replies that one connection awaits.

This is on the hot path of every call, so it is flat: per ask one future, one slotted
record and one dict entry; no task and no timer.  One timer per connection, set to the
earliest deadline in steps of 50 ms, sweeps the table; with nothing waiting it stops.

A reply subject ends with a key: the clock of this process, so that a service sees how long
the ask was on its way (see `kitmsg.transport.lateness`), and a part that nobody can guess,
so that only those who got the request can answer it or take it back.
"""

from __future__ import annotations

import asyncio
import base64
import math
import os
import struct
from typing import TYPE_CHECKING, Final

import msgspec

from kitmsg.errors import DeadlineExceeded, Disconnected, KitError, NoResponders
from kitmsg.wire import SECRET_CHARS, cancel_subject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kitmsg.message import Message

__all__ = ["TICK", "Ask", "Asks", "cancellations"]

TICK: Final = 0.05
"""Step in which asks expire, in seconds."""

_NO_RESPONDERS: Final = 503
_BATCH: Final = 256  # asks that one message ends
_NEVER: Final = math.inf

_SECRET_BYTES: Final = SECRET_CHARS * 6 // 8
_POOLED: Final = 512
_SPLIT: Final = struct.Struct(f"{SECRET_CHARS}s" * _POOLED)
_STAMP_SECONDS: Final = 0.005  # the clock in a key may be late by so much

# Random parts of the asks to come: one call of the system's generator for many of them.
_secrets: Final[list[bytes]] = []
# A forked process must not tell the same secrets as its parent.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_secrets.clear)


def _fill() -> None:
    text = base64.urlsafe_b64encode(os.urandom(_SECRET_BYTES * _POOLED))
    _secrets.extend(_SPLIT.unpack(text))


class Ask(msgspec.Struct, eq=False):
    """One awaited reply: await `future`.

    Args:
        token: Its number; later asks have larger ones.
        key: Last token of its reply subject: clock and random part.
        subject: Where it was sent.
        timeout: Seconds that it may take.
        expires: When its time is up, on the loop's clock.
        future: The reply.
    """

    token: int
    key: bytes
    subject: str
    timeout: float
    expires: float
    future: asyncio.Future[Message]


class Asks:
    """Table of awaited replies, by the last token of their subjects.

    Tokens grow, and a connection writes in order, so one number tells which asks were
    written: `mark_written` is O(1) per flush.

    Attributes:
        on_abandoned: Called with asks that nobody waits for any more: one that was
            cancelled, or all whose time was up in one sweep.
        count: Returns how many are awaited; as `len`, in one step.
    """

    __slots__ = (
        "_handle",
        "_last",
        "_loop",
        "_stamp",
        "_stamped_until",
        "_sweep_at",
        "_table",
        "_written",
        "count",
        "late",
        "on_abandoned",
    )

    def __init__(self) -> None:
        self.on_abandoned: Callable[[list[Ask]], None] = lambda _: None
        # One table for ever: `count` is its own.
        self._table: dict[bytes, Ask] = {}
        self.count: Callable[[], int] = self._table.__len__
        self._last = 0
        self._written = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._sweep_at = _NEVER
        # Milliseconds of the loop's clock and a `-`: the keys of all asks until then.
        self._stamp = b""
        self._stamped_until = -_NEVER
        self.late = 0
        """Replies that came when nobody waited for them any more."""

    def __len__(self) -> int:
        return len(self._table)

    def attend(self, loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop:
        """Wait on `loop` from now on; what waited on another is forgotten with it.

        For a bus in memory, which may outlive its first loop.
        """
        if loop is not self._loop:
            self._table.clear()
            self._handle, self._sweep_at, self._loop = None, _NEVER, loop
            self._stamped_until = -_NEVER
        return loop

    def open(self, subject: str, timeout: float) -> Ask:
        """Start to wait for one reply, at most `timeout` seconds.

        Needs a running event loop.

        Raises:
            DeadlineExceeded: `timeout` is not more than zero; do not send.
        """
        if not timeout > 0:  # so that NaN is refused too
            raise DeadlineExceeded(f"no time left to ask {subject!r}")
        loop = self._loop or self.attend(asyncio.get_running_loop())
        now = loop.time()
        if now >= self._stamped_until:
            self._stamp = b"%d-" % (now * 1000)
            self._stamped_until = now + _STAMP_SECONDS
        try:
            key = self._stamp + _secrets.pop()
        except IndexError:
            _fill()
            key = self._stamp + _secrets.pop()
        self._last = token = self._last + 1
        expires = now + timeout
        future = loop.create_future()
        ask = self._table[key] = Ask(token, key, subject, timeout, expires, future)
        if expires < self._sweep_at:
            self._arm(expires)
        return ask

    def resolve(self, key: bytes, message: Message) -> None:
        """Give `message` to the ask that waits for it, else count it as `late`."""
        ask = self._table.pop(key, None)
        if ask is None or (future := ask.future).done():
            self.late += 1
        elif (
            message.header_block
            and not message.data
            and message.status == _NO_RESPONDERS
        ):
            future.set_exception(NoResponders(ask.subject))
        else:
            future.set_result(message)

    def forget(self, ask: Ask) -> bool:
        """Stop waiting; tell whether the ask was still open."""
        if self._table.pop(ask.key, None) is not None:
            return True
        if ask.future.done() and not ask.future.cancelled():
            ask.future.exception()  # seen: the send that ended it has raised, too
        return False

    def give_up(self, ask: Ask, error: BaseException) -> None:
        """Stop waiting because of `error`; where that is a cancellation, tell the service."""
        if self.forget(ask) and isinstance(error, asyncio.CancelledError):
            self.on_abandoned([ask])

    async def reply(self, ask: Ask) -> Message:
        """Wait for the reply to `ask`; raises what ended it."""
        try:
            return await ask.future
        except BaseException as error:
            self.give_up(ask, error)
            raise

    def mark_written(self) -> None:
        """Note that every ask opened so far has been handed to the network."""
        self._written = self._last

    def was_written(self, ask: Ask) -> bool:
        """Tell whether `ask` has been handed to the network."""
        return ask.token <= self._written

    def fail_all(self, reason: str) -> None:
        """End every wait with `Disconnected`; its `sent` tells what was written."""
        self._fail(
            list(self._table.values()),
            lambda ask: Disconnected(reason, sent=self.was_written(ask)),
        )
        self._disarm()

    def fail_where(
        self, test: Callable[[Ask], bool], make: Callable[[Ask], KitError]
    ) -> int:
        """End the waits that `test` picks with the error that `make` builds for each.

        Returns:
            How many there were.
        """
        chosen = [ask for ask in self._table.values() if test(ask)]
        self._fail(chosen, make)
        return len(chosen)

    def _fail(self, asks: list[Ask], make: Callable[[Ask], KitError]) -> None:
        for ask in asks:
            del self._table[ask.key]
            if not ask.future.done():
                ask.future.set_exception(make(ask))

    # Invariant: while the table is not empty, a sweep is due no later than one tick
    # after the earliest deadline in it.  One that comes too early finds nothing.

    def _arm(self, expires: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        assert self._loop is not None  # noqa: S101  # set by the first `open`
        self._sweep_at = (expires // TICK + 1) * TICK
        self._handle = self._loop.call_at(self._sweep_at, self._sweep)

    def _disarm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle, self._sweep_at = None, _NEVER

    def _sweep(self) -> None:
        assert self._loop is not None  # noqa: S101  # set by the first `open`
        # A timer may fire a little early, and on a busy loop much too late.
        now = max(self._sweep_at, self._loop.time())
        self._handle, self._sweep_at = None, _NEVER
        expired = [a for a in self._table.values() if a.expires <= now]
        self._fail(expired, _expired)
        if expired:
            self.on_abandoned(expired)
        earliest = min((a.expires for a in self._table.values()), default=_NEVER)
        if earliest < _NEVER:
            self._arm(max(now, earliest))


def cancellations(asks: Sequence[Ask], inbox: str) -> Iterator[tuple[str, bytes]]:
    """Yield the messages that end asks, as subject and payload: few, even for many asks.

    Args:
        asks: The asks.
        inbox: What their reply subjects begin with.
    """
    by_subject: dict[str, list[str]] = {}
    for ask in asks:
        replies = by_subject.setdefault(cancel_subject(ask.subject), [])
        replies.append(f"{inbox}{ask.key.decode()}")
    for subject, replies in by_subject.items():
        for at in range(0, len(replies), _BATCH):
            yield subject, "\n".join(replies[at : at + _BATCH]).encode()


def _expired(ask: Ask) -> DeadlineExceeded:
    return DeadlineExceeded(f"no reply from {ask.subject!r} in {ask.timeout:.3g} s")
