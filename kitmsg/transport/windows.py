"""Flow control of a stream: its receive window and its send window.

A receiver lets its sender go so far ahead as a window reaches, and moves it on when half of
it is used up, so that neither waits for the other while both are quick.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from kitmsg.errors import DataLoss, ResourceExhausted

if TYPE_CHECKING:
    from kitmsg.message import Message

__all__ = ["FIRST_WINDOW", "Incoming", "Outgoing", "Waiters"]

FIRST_WINDOW: Final = 16
"""Items that a peer may send before it has heard anything more."""

_LEAST_WINDOW: Final = 2
_MOST_WINDOW: Final = 256
_FINE: Final = 64  # a drained sender has credit for each 64th of a window
_WINDOW_BYTES: Final = 4 << 20  # so many bytes of items may be on their way
# What the busy streams of a connection may have on their way together, so that an answer
# does not wait behind the items of them all.  With 64 at full speed an ask took 560 ms when
# they did not share, with 1024 items 25 to 40, with 512 half of that for a tenth less items
# a second.
_ALL_WINDOWS: Final = 1024
_ALL_BYTES: Final = 8 << 20


class Waiters:
    """Tasks that wait until something changes."""

    __slots__ = ("_futures",)

    def __init__(self) -> None:
        self._futures: dict[asyncio.Future[None], None] = {}  # in order

    def __len__(self) -> int:
        return len(self._futures)

    async def wait(self) -> None:
        """Wait for the next `wake`."""
        future = asyncio.get_running_loop().create_future()
        self._futures[future] = None
        try:
            await future
        finally:
            # `wake` may have taken it out since it was cancelled.
            self._futures.pop(future, None)

    def wake(self) -> None:
        """Let everybody go on who waits now."""
        if not self._futures:
            return
        woken, self._futures = self._futures, {}
        for future in woken:
            if not future.done():
                future.set_result(None)


class Incoming:
    """Receive window: items from the peer.

    Attributes:
        items: Those that came and were not read.
        received: How many came.
        granted: Number of the last item that may come.
        has_ended: Whether the peer said that there are no more.
        waiters: Who waits for one.
    """

    __slots__ = (
        "_is_fine",
        "_largest",
        "_low",
        "_read",
        "granted",
        "has_ended",
        "items",
        "received",
        "waiters",
    )

    def __init__(self) -> None:
        self.items: deque[Message] = deque()
        self.received = self.granted = 0
        self.has_ended = False
        self.waiters = Waiters()
        self._read = 0
        # Credit is due when no more than so many items may still come.
        self._low = _MOST_WINDOW // 2
        # Whether credit also tells a sender that drains that its items are read.
        self._is_fine = False
        self._largest = 1

    def count(self, seq: int, size: int, name: str) -> None:
        """Note that item `seq` of `size` bytes came.

        Raises:
            DataLoss: One before it is missing.
            ResourceExhausted: It may not come yet.
        """
        if seq != self.received + 1:
            raise DataLoss(f"item {self.received + 1} of {name} was lost")
        if seq > self.granted:
            raise ResourceExhausted(f"{name} sends more than it may")
        self.received = seq
        self._largest = max(self._largest, size)

    def put(self, item: Message) -> None:
        """Keep an item until it is read."""
        self.items.append(item)
        self.waiters.wake()

    def read(self) -> bool:
        """Note that one more was read; tell whether it is time to `grant` more."""
        self._read += 1
        return self.granted - self._read <= self._low and not self.has_ended

    def acknowledge_finely(self) -> None:
        """Grant more as soon as a few items are read, not half a window of them."""
        self._is_fine = True
        self._low = _MOST_WINDOW  # until the next grant knows better

    def grant(self, busy: int) -> int:
        """Let more come; returns the number of the last item that may, 0 for no more.

        Args:
            busy: How many streams share the connection just now.
        """
        window = min(_MOST_WINDOW, _ALL_WINDOWS // busy)
        size = min(_WINDOW_BYTES, _ALL_BYTES // busy)
        window = max(min(window, size // self._largest), _LEAST_WINDOW)
        step = max(1, window // _FINE) if self._is_fine else window - window // 2
        self._low = window - step
        if self.granted - self._read > self._low:
            return 0
        self.granted = self._read + window
        return self.granted


class Outgoing:
    """Send window: items to the peer.

    Attributes:
        sent: How many items were.
        granted: Number of the last that may be.
        has_ended: Whether the peer was told that there are no more.
        waiters: Who waits to send.
    """

    __slots__ = ("granted", "has_ended", "sent", "waiters")

    def __init__(self) -> None:
        self.sent = self.granted = 0
        self.has_ended = False
        self.waiters = Waiters()

    @property
    def is_full(self) -> bool:
        """Whether no item may be sent now."""
        return self.sent >= self.granted

    def grant(self, upto: int) -> None:
        """Take the peer's word that items up to number `upto` may be sent."""
        self.granted = max(self.granted, upto)
        self.waiters.wake()
