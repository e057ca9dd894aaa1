"""Ticks: each time of a schedule, stored once by whichever instance is first.

The last tick of a schedule stays in its stream as the record of what was done.  At each time
every instance publishes the tick, on the condition that the last one is still the one that
it knows, so the stream takes one of them.  What it stores is delivered as events are:
retried, never two at once, to one instance.  Of ticks that piled up the last is carried out,
and the others are passed over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

import msgspec

from kitmsg.errors import Aborted, KitError, NotFound
from kitmsg.jetstream import Expect

if TYPE_CHECKING:
    from kitmsg.events.schedule import Times
    from kitmsg.jetstream import JetStream

__all__ = ["Tick", "Ticker", "tick_subject"]

_log = logging.getLogger("kitmsg.events")

_LONGEST_SLEEP: Final = 60.0
_AGAIN: Final = 1.0


class Tick(msgspec.Struct):
    """A time of a schedule.

    Attributes:
        due: The time, in unix seconds.
    """

    due: float


def tick_subject(name: str) -> str:
    """Return the subject of a schedule's ticks, by its dotted name."""
    return f"tick.{name}"


class Ticker:
    """Publishes the ticks of one schedule.

    Args:
        jetstream: The store, which has the stream.
        stream: Name of the stream.
        name: Dotted name of the schedule.
        times: When it is due.
    """

    def __init__(
        self, jetstream: JetStream, stream: str, name: str, times: Times
    ) -> None:
        self._jetstream = jetstream
        self._stream = stream
        self._name = name
        self._times = times
        self._subject = tick_subject(name)
        # Time of the last tick that is stored, as far as this instance knows; None before
        # it looked.
        self._last: float | None = None
        self._looked = asyncio.Event()

    async def is_last(self, tick: Tick) -> bool:
        """Tell whether no later tick is stored."""
        await self._looked.wait()
        return self._last is None or tick.due >= self._last

    async def run(self) -> None:
        """Publish each tick at its time, until cancelled."""
        while True:
            try:
                self._last = await self._catch_up(self._last)
                self._looked.set()
            except KitError as error:
                _log.warning("%s: no tick could be stored: %s", self._name, error)
                await asyncio.sleep(_AGAIN)
                continue
            await self._until(self._times.following(self._jetstream.now()))

    async def _until(self, due: float) -> None:
        # Again and again, because the clock may be set meanwhile.
        while (left := due - self._jetstream.now()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(min(left, _LONGEST_SLEEP))

    async def _catch_up(self, since: float | None) -> float:
        """Store the latest tick that is due and not yet stored; returns its time.

        A schedule that is new begins now: what was due before counts as done.
        """
        due = self._times.last(self._jetstream.now())
        if since is not None and due <= since:
            return since
        stream = await self._jetstream.stream(self._stream)
        try:
            stored = await stream.last(self._subject, fresh=True)
        except NotFound:
            if since is None:
                return due
            sequence = 0
        else:
            sequence = stored.sequence
            last = msgspec.json.decode(stored.data, type=Tick).due
            if due <= last:
                return last
        with contextlib.suppress(Aborted):  # another instance was first
            await self._jetstream.publish(
                self._subject,
                msgspec.json.encode(Tick(due)),
                message_id=f"{self._name}@{due:.3f}",
                expect=Expect(last_on_subject=sequence),
            )
        return due
