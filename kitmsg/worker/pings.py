"""Warns of a NATS server that would notice late that a machine has died.

A machine that dies closes no connection: the server sends calls there until two pings have
no answer.  It does not tell its ``ping_interval``, so this hears it: a server pings a client
that sends nothing about 2 s after it came, and then at each interval
(``setFirstPingTimer`` and ``processPingTimer`` of nats-server).  A worker's own connection
is never so quiet; this one is, and is closed when it has heard enough.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Final

from kitmsg.errors import KitError

if TYPE_CHECKING:
    from kitmsg.worker.settings import Settings

__all__ = ["warn_of_slow_pings"]

_log = logging.getLogger("kitmsg.worker")

_FIRST_SECONDS: Final = 3.0  # until a server's first ping, at the latest
_NEVER: Final = 3600.0


async def warn_of_slow_pings(settings: Settings) -> None:
    """Log a warning if the server pings less often than `settings` want.

    Nothing is said where the connection is lost meanwhile, or cannot be had.
    """
    longest = settings.max_ping_interval
    if not longest:
        return
    try:
        pings = await _pings(settings, _FIRST_SECONDS + longest)
    except KitError as exc:
        _log.debug("cannot hear how often the NATS server pings: %s", exc)
        return
    if pings is not None and pings < 2:  # noqa: PLR2004  # the ends of one interval
        _log.warning(
            "the NATS server pings its clients less often than every %g s: if a machine"
            " dies, its workers' share of the calls is lost until two pings have no"
            ' answer. Set ping_interval: "5s" in the server\'s configuration, or'
            " --max-ping-interval here",
            longest,
        )


async def _pings(settings: Settings, seconds: float) -> int | None:
    """Return how many pings came, 2 at most; None if the connection was lost."""
    from kitmsg.discovery.pool import connect_bus

    bus = await connect_bus(
        **settings.connection(f"kitmsg worker {os.getpid()}, hears pings"),
        ping_interval=_NEVER,
        reconnect=False,
    )
    heard = asyncio.Semaphore(0)
    bus.watch_pings(heard.release)
    count = 0
    try:
        async with asyncio.timeout(seconds):
            while count < 2:  # noqa: PLR2004
                await heard.acquire()
                count += 1
    except TimeoutError:
        return count if bus.is_connected else None
    finally:
        await bus.close()
    return count
