"""Push loops: one task per receiver reads families at an interval and sends what changed.

A receiver that is gone is said once, and once more when it is back; meanwhile nothing is
kept for it, see `kitmsg.metrics.window`.  The last flush is at `close`.

    async with pushing("statsd://127.0.0.1:8125") as metrics:  # a program without a worker
        metrics.counter("orders_placed_total").add()
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

from kitmsg.metrics.address import backend_of, parse
from kitmsg.metrics.families import labelled, shown
from kitmsg.metrics.memory import MemoryMetrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from kitmsg.metrics.address import Address, Backend
    from kitmsg.metrics.families import Collect

__all__ = ["Pusher", "pushers", "pushing"]

_log = logging.getLogger("kitmsg.metrics")

_PUSH_SECONDS: Final = 10.0  # longest flush
_LAST_SECONDS: Final = 2.0  # longest last flush: a drain must end


class Pusher:
    """The loop of one receiver.

    Args:
        backend: Sends; closed with the loop.
        collect: Makes the families.
        name: Of the receiver, for logs.
        interval: Seconds between two flushes.
        labels: Labels of all series.

    Attributes:
        is_well: Whether the receiver took the last flush.
    """

    def __init__(
        self,
        backend: Backend,
        collect: Collect,
        *,
        name: str,
        interval: float,
        labels: dict[str, str] | None = None,
    ) -> None:
        self.is_well = True
        self._backend = backend
        self._collect = collect
        self._name = name
        self._interval = interval
        self._labels = labels or {}
        self._task: asyncio.Task[None] | None = None
        self._flushing = asyncio.Lock()  # a flush that is late is not overtaken

    def start(self) -> None:
        """Begin to push."""
        self._task = asyncio.create_task(self._run())

    async def flush(self, longest: float = _PUSH_SECONDS) -> bool:
        """Send what has changed now; False when the receiver did not take it.

        Args:
            longest: Give up after so many seconds.
        """
        try:
            async with asyncio.timeout(longest), self._flushing:
                await self._backend.push(labelled(self._collect(), **self._labels))
        except Exception as exc:  # noqa: BLE001  # a plugin's, or a collector's too
            self._failed(exc)
        else:
            if not self.is_well:
                _log.info("%s takes metrics again", self._name)
            self.is_well = True
        return self.is_well

    async def close(self) -> None:
        """Flush a last time, and close the connection."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))
        await self.flush(_LAST_SECONDS)
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_LAST_SECONDS):
                await self._backend.close()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            await self.flush(max(self._interval, _PUSH_SECONDS))

    def _failed(self, error: Exception) -> None:
        if self.is_well:
            why = str(error) or type(error).__name__
            _log.warning(
                "%s takes no metrics: %s; counts go on and are sent when it is back",
                self._name,
                why,
            )
        self.is_well = False


def pushers(
    addresses: Iterable[Address], own: Collect, labels: dict[str, str] | None = None
) -> list[Pusher]:
    """Return a loop for each address that is pushed to, not started.

    Args:
        addresses: Of the receivers.
        own: Makes the families that are pushed beside those of the process, as
            `kitmsg.metrics.families.shown`.
        labels: Labels of all series.

    Raises:
        InvalidArgument: An address cannot be used.
        FailedPrecondition: A package is missing.
    """
    opened = [(address, backend_of(address)) for address in addresses]
    return [
        Pusher(
            backend,
            shown(own),
            name=address.shown,
            interval=address.interval,
            labels=labels,
        )
        for address, backend in opened
        if backend is not None
    ]


@contextlib.asynccontextmanager
async def pushing(*addresses: str) -> AsyncIterator[MemoryMetrics]:
    """Push to `addresses` for as long as the block lasts; gives the provider to count in.

    All that the process counts is pushed: calls of clients, circuits and the rest; services
    and the connection too of a kit that is made by ``kitmsg.connect(metrics=...)`` with it.

    Raises:
        InvalidArgument: An address cannot be used.
        FailedPrecondition: A package is missing.
    """
    metrics = MemoryMetrics(fine=True)
    loops = pushers(map(parse, addresses), metrics.collect)
    for each in loops:
        each.start()
    try:
        yield metrics
    finally:
        await asyncio.gather(*(each.close() for each in loops))
