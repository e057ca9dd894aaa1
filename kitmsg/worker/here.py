"""One worker in this process: ``kitmsg.run(Greeter())``, for ``python greeter.py``."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

from kitmsg import logs, loops
from kitmsg.errors import KitError, PermissionDenied, Unauthenticated
from kitmsg.logs.structured import follow_structlog
from kitmsg.service import Service
from kitmsg.worker.control import EXIT_CONFIG, EXIT_DENIED
from kitmsg.worker.ending import end_without
from kitmsg.worker.runtime import Runtime
from kitmsg.worker.settings import Settings, load_settings
from kitmsg.worker.watchdog import watch_loop

if TYPE_CHECKING:
    from kitmsg.worker.load import Factory

__all__ = ["run_here"]


def run_here(*services: Service | Factory) -> None:
    """Serve until SIGTERM or Ctrl-C, then drain; a second signal ends at once.

    Logging, connection and drain are set by environment and ``[tool.kitmsg]``, as for
    ``kitmsg run``.

    Args:
        services: Instances, classes, or functions that make one.

    Raises:
        TypeError: Nothing was given, or something that is no service.
        SystemExit: With 1 when a service failed too often, with 2 and a sentence when
            the settings make serving impossible, with 6 when the bus does not let us in.
    """
    if not services or not all(map(callable, (s for s in services if not _is(s)))):
        raise TypeError("give what to serve: kitmsg.run(Greeter())")
    try:
        settings = load_settings()
        logs.set_up(**settings.logging())
        follow_structlog()
        is_well = loops.run(_serve(services, settings))
    except KitError as exc:
        print(f"kitmsg: {exc}", file=sys.stderr)  # noqa: T201  # the last word
        is_denied = isinstance(exc, (PermissionDenied, Unauthenticated))
        raise SystemExit(EXIT_DENIED if is_denied else EXIT_CONFIG) from exc
    if not is_well:
        raise SystemExit(1)


async def _serve(services: tuple[Service | Factory, ...], settings: Settings) -> bool:
    runtime = Runtime(services, settings, hears_pings=True)
    loop = asyncio.get_running_loop()

    def stop(number: int) -> None:
        runtime.stop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)
            loop.add_signal_handler(each, os._exit, 128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    watching: list[asyncio.Task[None]] = []

    def on_ready() -> None:
        if runtime.kit is not None:
            watching.append(asyncio.create_task(watch_loop(runtime.kit.bus)))

    is_well = await runtime.serve(on_ready)
    for task in watching:
        task.cancel()
    await end_without(runtime.executors, 0 if is_well else 1)
    return is_well


def _is(service: object) -> bool:
    return isinstance(service, Service)
