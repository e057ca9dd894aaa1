"""The parent process of ``kitmsg run``: signals, health, and a supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from typing import TYPE_CHECKING

from kitmsg.worker.announce import announcer, check_announcing
from kitmsg.worker.health import HealthServer
from kitmsg.worker.pushing import check_metrics
from kitmsg.worker.relaying import check_outbox
from kitmsg.worker.settings import parse_address
from kitmsg.worker.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.discovery.registrar import Registrar
    from kitmsg.worker.control import GatewayOrders
    from kitmsg.worker.settings import Settings

__all__ = ["is_hung_up", "on_signals", "run_parent"]

_log = logging.getLogger("kitmsg.supervisor")


def run_parent(
    targets: tuple[str, ...],
    settings: Settings,
    *,
    gateway: GatewayOrders | None = None,
    serves: tuple[str, int] | None = None,
    on_stop: Callable[[], object] = lambda: None,
) -> int:
    """Run workers until a signal ends them; returns the exit code.

    SIGTERM and SIGINT drain, a second one ends all at once, SIGHUP replaces the workers.

    Args:
        targets: What every worker serves.
        settings: How.
        gateway: Which gateway the workers are; None when they serve `targets`.
        serves: Host and port that are announced; by default those of the health checks.
        on_stop: Called when the end begins, before the workers are told.

    Raises:
        FailedPrecondition: The health port is taken.
        InvalidArgument: It cannot be announced, metrics not sent or the outbox not relayed,
            as the settings say.
    """
    check_announcing(settings, has_place=bool(serves or settings.health))
    check_metrics(settings)
    if gateway is None:
        check_outbox(settings)
    supervisor = Supervisor(targets, settings, gateway=gateway, on_stop=on_stop)
    return asyncio.run(_run(settings, supervisor, serves))


async def _run(
    settings: Settings, supervisor: Supervisor, serves: tuple[str, int] | None
) -> int:
    health = None
    if settings.health:
        health = HealthServer(supervisor, *parse_address(settings.health))
        await health.start()
        _log.info("health on port %d", health.port)
        serves = serves or (parse_address(settings.health)[0], health.port)
    announced = _Announced(supervisor, announcer(settings, serves))
    on_signals(announced.stop, supervisor.kill)
    rolls: set[asyncio.Task[None]] = set()

    def roll() -> None:
        if is_hung_up():
            announced.stop()
            return
        task = asyncio.create_task(_roll(supervisor))
        rolls.add(task)
        task.add_done_callback(rolls.discard)

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, roll)
    try:
        return await supervisor.run()
    finally:
        await announced.close()
        if health is not None:
            health.stop()


class _Announced:
    """Announces a supervisor's workers while they serve."""

    def __init__(self, supervisor: Supervisor, registrar: Registrar | None) -> None:
        self._supervisor = supervisor
        self._registrar = registrar
        self._ending: asyncio.Task[None] | None = None
        self._starting = asyncio.create_task(self._start())

    async def _start(self) -> None:
        if self._registrar is not None and await self._supervisor.wait_ready():
            await self._registrar.start()

    def stop(self) -> None:
        """Take the announcement back, and then drain the workers."""
        if self._registrar is None:
            self._supervisor.stop()
        elif self._ending is None:
            self._ending = asyncio.create_task(self._stop())

    async def _stop(self) -> None:
        self._starting.cancel()
        if self._registrar is not None:
            await self._registrar.stop()
        self._supervisor.stop()

    async def close(self) -> None:
        """End what `stop` did not."""
        await (self._ending or self._stop())


def on_signals(stop: Callable[[], object], kill: Callable[[], object]) -> None:
    """Call `stop` at the first SIGTERM or SIGINT; at the second, `kill` and exit.

    The exit code is then 128 and the signal's number, as shells say it.
    """
    loop = asyncio.get_running_loop()
    seen: list[int] = []

    def heard(number: int) -> None:
        if seen:
            kill()
            os._exit(128 + number)
        seen.append(number)
        _log.info(
            "%s: draining; a second one ends at once", signal.Signals(number).name
        )
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, heard, number)


async def _roll(supervisor: Supervisor) -> None:
    _log.info("SIGHUP: replacing the workers, one after the other")
    if await supervisor.reload():
        _log.info("all workers are replaced")


def is_hung_up() -> bool:
    """Tell whether a SIGHUP came because the terminal is gone."""
    with contextlib.suppress(OSError):
        if os.isatty(0):
            os.tcgetpgrp(0)
        return False
    return True
