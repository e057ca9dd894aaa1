"""``--metrics ADDRESS``: pushes what a process counts for as long as it serves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kitmsg.errors import InvalidArgument
from kitmsg.metrics.address import backend_of, parse
from kitmsg.metrics.push import pushers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kitmsg.metrics.families import Collect, Family
    from kitmsg.metrics.push import Pusher
    from kitmsg.service import Kit
    from kitmsg.worker.settings import Settings

__all__ = ["PushLoops", "check_metrics", "counted", "is_pushed"]


def check_metrics(settings: Settings) -> None:
    """Check that the addresses of metrics can be used; sends nothing.

    Raises:
        InvalidArgument: One is wrong, or stands twice; the message says how it should be.
        FailedPrecondition: A package that one needs is not installed.
    """
    for text in settings.metrics:
        backend_of(parse(text))
    if len(set(settings.metrics)) < len(settings.metrics):
        raise InvalidArgument(
            "--metrics names one address twice: all would count twice"
        )


def is_pushed(settings: Settings) -> bool:
    """Whether metrics are pushed anywhere."""
    return any(backend_of(parse(text)) is not None for text in settings.metrics)


def counted(server: object, kit: Kit) -> Collect:
    """Return what collects the families of a gateway that has no worker around it."""

    def collect() -> Iterable[Family]:
        yield from kit.collect_all()
        if (read := getattr(server, "collect", None)) is not None:
            yield from read()

    return collect


class PushLoops:
    """The push loops of a process.

    Args:
        settings: With the addresses.
        own: Makes the families beside those of the process.
        labels: Labels of all series.

    Raises:
        InvalidArgument: An address cannot be used.
        FailedPrecondition: A package is missing.
    """

    def __init__(self, settings: Settings, own: Collect, **labels: str) -> None:
        self._loops: list[Pusher] = pushers(map(parse, settings.metrics), own, labels)
        for each in self._loops:
            each.start()

    async def close(self) -> None:
        """Flush a last time, all at once, and close the connections."""
        loops, self._loops = self._loops, []
        await asyncio.gather(*(each.close() for each in loops))
