"""The log of an event, read once for all who follow it.

One reader follows the end of the log and keeps its last events; a follower that is further
behind reads pages of the log until it is there.  So a slow one costs no memory here: it
stands somewhere in the log, not in a queue.

Reading needs no consumer: an event is also a message that whoever listens hears, and that
wakes the reader, which asks the stream for what is behind its last event.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from kitmsg.errors import (
    BusDenied,
    DeadlineExceeded,
    FailedPrecondition,
    KitError,
    NotFound,
    Unavailable,
)
from kitmsg.jetstream.source import watch_denials
from kitmsg.wire import JS_API
from kitmsg_gateways.edge.events.batch import Batch

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.bus import Bus
    from kitmsg.jetstream import JetStream, Stored, Stream
    from kitmsg.message import Message

__all__ = ["Feed"]

_log = logging.getLogger("kitmsg_gateways.events")

_PAGE: Final = 128  # events
_PAGE_BYTES: Final = 32 << 10
_KEPT_BYTES: Final = 1 << 20
_KEPT: Final = 64  # batches
_LOOK_SECONDS: Final = 5.0  # between two looks at a log where nothing is heard
_FIRST_WAIT: Final = 0.0005  # for an event that was heard, and is not stored yet
_MOST_WAIT: Final = 0.25
_BACKOFF: Final = 0.1
_MOST_BACKOFF: Final = 2.0


class Feed:
    """The followed log of one event.

    Args:
        bus: Where events are heard.
        jetstream: The store.
        stream: Name of the stream.
        pattern: The subjects of the event.
        slots: Bounds the pages that are read at a time.

    Attributes:
        pattern: As given.
        position: Sequence up to which all that is stored was read.
        floor: Sequence behind which all up to `position` is kept here.
        epoch: Counts how often the stream was made anew under it.
        error: Why it ended; None while it goes on.
        followers: How many follow it.
    """

    # Invariants: `_kept` are batches without gaps, from `floor` to `position`.  `_owed` is
    # the number of events that were heard and not read; too high where one is not stored.

    def __init__(
        self,
        bus: Bus,
        jetstream: JetStream,
        stream: str,
        pattern: str,
        slots: asyncio.Semaphore,
    ) -> None:
        self.position = self.floor = self.epoch = 0
        self.error: KitError | None = None
        self.followers = 0
        self._bus = bus
        self._jetstream = jetstream
        self._name = stream
        self.pattern = pattern
        self._slots = slots
        self._stream: Stream | None = None
        self._kept: deque[Batch] = deque()
        self._size = 0
        self._owed = 0
        self._heard = asyncio.Event()
        self._changed = asyncio.Event()
        self._pages: dict[tuple[str, int, float | None], asyncio.Task[Batch]] = {}
        self._starting: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._undo: list[Callable[[], None]] = []

    # -- beginning and end

    async def start(self) -> None:
        """Begin to follow the log; several may wait for it.

        Raises:
            Unavailable: There is no stream, or no store.
            KitError: It cannot be read.
        """
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(_retrieve)
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        watch_denials(self._bus, self)
        try:
            self._undo = [
                self._bus.subscribe(self.pattern, self._hear).unsubscribe,
                self._bus.watch(lambda _: self._heard.set()),
            ]
            self._stream = await self._jetstream.stream(self._name)
            _, self.position = await self.ends()
        except NotFound as error:
            self.end(_missing(self._name, error))
            raise _missing(self._name, error) from error
        except KitError as error:
            self.end(error)
            raise
        if self.error is not None:  # nobody follows it any more
            raise self.error
        self.floor = self.position
        self._reading = asyncio.create_task(self._read_on())

    def end(self, error: KitError) -> None:
        """End it: followers are told `error`."""
        if self.error is None:
            self.error = error
        while self._undo:
            self._undo.pop()()
        for task in (self._reading, *self._pages.values()):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        self.wake()

    def denied(self, subject: str) -> None:
        """End it where the server forbids what it needs."""
        needed = (self.pattern, f"{JS_API}.DIRECT.GET.{self._name}")
        if subject in [each.lower() for each in needed]:
            self.end(
                BusDenied(
                    f"this user of the NATS server may not use {subject!r}, which the log of"
                    f" {self.pattern} needs: see `kitmsg acl --events`"
                )
            )

    # -- for followers

    def next(self, after: int) -> Batch | None:
        """Return what is kept here behind a message; None if it is not all kept.

        It is empty where nothing is behind.

        Args:
            after: Its sequence.
        """
        if after >= self.position:
            return Batch(after, after, ())
        if after < self.floor:
            return None
        for batch in reversed(self._kept):
            if batch.after <= after:
                return batch.behind(after)
        return None

    async def wait(self) -> None:
        """Return when there is more, or it ended."""
        await self._changed.wait()

    async def page(self, pattern: str, after: int, since: float | None = None) -> Batch:
        """Return the next events of the log; those who ask for the same share one read.

        Args:
            pattern: Their subjects.
            after: Sequence of the last message before.
            since: Time to begin at instead, in unix seconds.

        Raises:
            KitError: The log cannot be read.
        """
        key = pattern, after, since
        task = self._pages.get(key)
        if task is None:
            task = asyncio.create_task(self._page(pattern, after, since))
            self._pages[key] = task
            task.add_done_callback(lambda _: self._pages.pop(key, None))
            task.add_done_callback(_retrieve)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and self.error is not None:
                raise self.error from None
            raise

    async def ends(self) -> tuple[int, int]:
        """Return the sequences of the stream's first and last message."""
        info = await self._of_stream().info()
        return info.first, info.last

    async def _page(self, pattern: str, after: int, since: float | None) -> Batch:
        async with self._slots:
            while True:
                before = self.position
                found, left = await self._fetch(pattern, after, since)
                if found and left:
                    return Batch(after, found[-1].sequence, found)
                # The replica that answered may be behind; the leader is not.
                last = await self._last(pattern)
                there = found[-1].sequence if found else after
                if last is None or last.sequence <= there or _is_before(last, since):
                    return Batch(after, max(there, before), found)
                if found:
                    return Batch(after, there, found)
                await asyncio.sleep(_MOST_WAIT)

    async def _last(self, pattern: str) -> Stored | None:
        try:
            return await self._of_stream().last(pattern, fresh=True)
        except NotFound:
            return None

    async def _fetch(
        self, pattern: str, after: int, since: float | None = None
    ) -> tuple[list[Stored], int]:
        return await self._of_stream().page(
            pattern,
            sequence=after + 1,
            since=since,
            batch=_PAGE,
            max_bytes=_PAGE_BYTES,
        )

    def _of_stream(self) -> Stream:
        assert self._stream is not None  # noqa: S101  # `start` got it
        return self._stream

    # -- the end of the log

    def _hear(self, _: Message) -> None:
        self._owed += 1
        self._heard.set()

    async def _read_on(self) -> None:
        """Read what is stored, for as long as it is followed."""
        wait = _BACKOFF
        while True:
            try:
                await self._look()
                wait = _BACKOFF
            except (Unavailable, DeadlineExceeded) as error:
                _log.debug("the log %s cannot be read: %s", self.pattern, error)
            except FailedPrecondition as error:
                if await self._is_over(error):
                    return
            except KitError as error:
                self.end(error)
                return
            else:
                continue
            await asyncio.sleep(wait)
            wait = min(2 * wait, _MOST_BACKOFF)

    async def _look(self) -> None:
        """Read all that is there, then wait for more."""
        wait = _FIRST_WAIT
        while True:
            self._heard.clear()
            found, left = await self._fetch(self.pattern, self.position)
            if found:
                self._owed = max(0, self._owed - len(found))
                self._add(found)
                wait = _FIRST_WAIT
            elif self._owed:
                if wait > _MOST_WAIT:
                    self._owed = 0  # it was refused, or known already
                    continue
                await asyncio.sleep(wait)
                wait *= 2
            if not (left or self._owed):
                break
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await self._heard.wait()
        except TimeoutError:
            await self._check_stream()

    def _add(self, found: list[Stored]) -> None:
        batch = Batch(self.position, found[-1].sequence, found)
        self.position = batch.up_to
        self._kept.append(batch)
        self._size += batch.size
        while len(self._kept) > 1 and (
            self._size > _KEPT_BYTES or len(self._kept) > _KEPT
        ):
            gone = self._kept.popleft()
            self._size -= gone.size
            self.floor = gone.up_to
        self.wake()

    def wake(self) -> None:
        """Have all who wait look again."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _check_stream(self) -> None:
        """Begin again where the stream was made anew, and counts from 1."""
        first, last = await self.ends()
        if last < self.position:
            self._kept.clear()
            self._size = 0
            self.position = self.floor = first - 1
            self.epoch += 1
            self.wake()

    async def _is_over(self, error: FailedPrecondition) -> bool:
        """Tell whether the log cannot be read at all; then it is ended."""
        ends: KitError = error
        with contextlib.suppress(Unavailable, DeadlineExceeded):
            try:
                info = await self._of_stream().info()
                if info.config.allow_direct:
                    return False  # nobody leads it now
            except NotFound as gone:
                ends = _missing(self._name, gone)
            except FailedPrecondition as off:
                ends = off
            self.end(ends)
            return True
        return False


def _is_before(last: Stored, since: float | None) -> bool:
    return since is not None and last.time < since


def _missing(stream: str, error: KitError) -> Unavailable:
    found = Unavailable(
        f"no stream {stream!r} stores this event; make it with `kitmsg streams apply`",
        retry_after=1.0,
    )
    found.__cause__ = error
    return found


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Take the error of a task whose followers have all left; the others are told it."""
    if not task.cancelled():
        task.exception()
