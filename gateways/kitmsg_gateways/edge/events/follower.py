"""One follower of an event's log: where it stands, and what comes next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitmsg_gateways.edge.events.batch import where_of

if TYPE_CHECKING:
    from kitmsg.errors import KitError
    from kitmsg_gateways.edge.events.batch import Batch
    from kitmsg_gateways.edge.events.feed import Feed
    from kitmsg_gateways.edge.events.since import Since

__all__ = ["Follower"]


class Follower:
    """A place in the log of an event; an async iterator over batches of events.

    ::

        async with door.follow("orders.placed", since=120) as follower:
            async for batch in follower:
                for stored in batch.events: ...

    Args:
        feed: The log, which is followed.
        pattern: The subjects that it wants.
        goes_on: Whether it waits for more at the end of the log.

    Attributes:
        gap: Whether events behind the place where it began may be gone: they are stored no
            more, or the stream was made anew.
    """

    # Invariant: `_at` is the sequence behind which it reads on; while `_since` is there, it
    # stands for it.

    def __init__(self, feed: Feed, pattern: str, *, goes_on: bool = True) -> None:
        self.gap = False
        self._feed = feed
        self._pattern = pattern
        self._where = where_of(pattern, feed.pattern)
        self._goes_on = goes_on
        self._at = feed.position
        self._since: float | None = None
        self._epoch = feed.epoch
        self._error: KitError | None = None

    async def begin(self, since: Since, after: int | None) -> None:
        """Find the place to begin at.

        Args:
            since: A sequence, a time, or None for from now on.
            after: Sequence of the last event that was read; goes before `since`.

        Raises:
            KitError: The log cannot be read.
        """
        if after is None and isinstance(since, int):
            self._at = max(since, 1) - 1
        elif after is None:
            self._since = since
        else:
            first, last = await self._feed.ends()
            self.gap = after > last or after < first - 1
            self._at = first - 1 if self.gap else after

    def __aiter__(self) -> Follower:
        return self

    async def __anext__(self) -> Batch:
        """Return the next events, one at least.

        Raises:
            StopAsyncIteration: The log is read, and it does not go on.
            KitError: The log cannot be read, or it was ended.
        """
        feed = self._feed
        while True:
            if error := self._error or feed.error:
                raise error
            if self._epoch != feed.epoch:
                self._epoch, self._at, self.gap = feed.epoch, feed.floor, True
            batch = None if self._since is not None else feed.next(self._at)
            if batch is None:
                batch = await feed.page(self._pattern, self._at, self._since)
                self._since = None
            elif batch.up_to == self._at:
                if not self._goes_on:
                    raise StopAsyncIteration
                await feed.wait()
                continue
            else:
                batch = batch.where(self._where)
            self._at = batch.up_to
            if batch.events:
                return batch

    def fail(self, error: KitError) -> None:
        """End it with `error`."""
        self._error = error
        self._feed.wake()
