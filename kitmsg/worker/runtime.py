"""Serves services on a bus until told to stop, then drains.  No signals, no processes."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import msgspec

from kitmsg.auth.signing import PrincipalSigner
from kitmsg.errors import KitError
from kitmsg.metrics.families import shown
from kitmsg.metrics.memory import MemoryMetrics
from kitmsg.service import Kit, Service
from kitmsg.service.connecting import trust_of
from kitmsg.service.counted import families
from kitmsg.service.inject import made_by
from kitmsg.service.report import report
from kitmsg.worker.ending import THREADS
from kitmsg.worker.levels import LevelResponder
from kitmsg.worker.pings import warn_of_slow_pings
from kitmsg.worker.pushing import PushLoops, is_pushed
from kitmsg.worker.relaying import WorkerRelay
from kitmsg.worker.starting import start_all
from kitmsg.worker.traces import flush_traces, set_up_traces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Executor

    from kitmsg.bus import Bus
    from kitmsg.metrics.families import Family
    from kitmsg.metrics.provider import Provider
    from kitmsg.service import ServiceHost
    from kitmsg.worker.load import Factory
    from kitmsg.worker.settings import Settings

__all__ = ["Runtime"]

_log = logging.getLogger("kitmsg.worker")

_MAX_THREADS: Final = 64
_PROGRESS_SECONDS: Final = 2.0


class Runtime:
    """The services of one process, on one bus.

    Args:
        services: Instances, or what makes them.
        settings: How to connect, and what to write of each call.
        hears_pings: Whether to warn of a server that pings too seldom; one worker of a
            parent is enough.
        place: Number of the worker, and how often it was started again.

    Attributes:
        kit: The connected kit; None before.
        metrics: Counted in by users' code; the kit's.
        hosts: What is served; still there while it drains.
        is_ready: Whether calls are served.
        is_draining: Whether the end has begun.
    """

    def __init__(
        self,
        services: Sequence[Service | Factory],
        settings: Settings,
        *,
        hears_pings: bool = False,
        place: tuple[int, int] = (1, 0),
    ) -> None:
        self._services: list[Service | Factory] = []
        self._settings = settings
        self._hears_pings = hears_pings
        self._place = place
        self._loops: PushLoops | None = None  # from the moment that a bus is there
        self.metrics = MemoryMetrics(fine=is_pushed(settings))
        for service in services:
            self.add(service)
        self._stop = asyncio.Event()
        self.kit: Kit | None = None
        self.hosts: list[ServiceHost] = []
        self.is_ready = False
        self.is_draining = False
        self._threads: ThreadPoolExecutor | None = None  # from `serve` on
        self._levels: LevelResponder | None = None  # while calls are served
        self._relay: WorkerRelay | None = None  # the same, and while it drains

    def add(self, service: Service | Factory) -> None:
        """Serve `service` too; before `serve` has begun to."""
        self._services.append(
            _logged(service) if self._settings.access_log else service
        )

    def collect(self) -> Iterable[Family]:
        """Return what is counted beside the services: by the process, and `own`."""
        return shown(self.own)()

    def own(self) -> Iterable[Family]:
        """Yield what is counted beside the services and the process: by users."""
        yield from self.metrics.collect()

    def exposition(self) -> str:
        """Return what is counted and only there as Prometheus reads it; "" for nothing."""
        return ""

    def stop(self) -> None:
        """Begin to drain; `serve` returns when that is done."""
        self._stop.set()

    @property
    def max_drain(self) -> float:
        """The longest time the drain may take, in seconds."""
        if self._settings.drain_timeout is not None:
            return self._settings.drain_timeout
        return max((host.service.drain_timeout for host in self.hosts), default=0.0)

    @property
    def _name(self) -> str:
        """Name of the only service; "" where there are several."""
        names = {getattr(made_by(each), "name", "") for each in self._services}
        return names.pop() if len(names) == 1 else ""

    @property
    def _traced_as(self) -> str:
        """``service.name`` of this process's spans."""
        return self._name or "kitmsg-worker"

    @property
    def is_connected(self) -> bool:
        """Whether the bus can be reached now."""
        return self.kit is not None and self.kit.bus.is_connected

    @property
    def stuck(self) -> list[str]:
        """The services all of whose threads hang; see `Mailbox.is_stuck`."""
        hosts = self.hosts
        return [h.service.name for h in hosts if h.intake.mailbox.is_stuck]

    @property
    def executors(self) -> list[Executor]:
        """The thread pools of the services here."""
        of_services = [host.intake.beside.executor for host in self.hosts]
        return [each for each in (self._threads, *of_services) if each is not None]

    async def serve(self, on_ready: Callable[[], None] | None = None) -> bool:
        """Connect, serve until `stop`, drain.

        Args:
            on_ready: Called when calls are served.

        Returns:
            Whether it ended well: False when a service failed too often to go on.

        Raises:
            KitError: The bus refuses this client.
            Exception: Whatever a service's `start` raises.
        """
        # Of services' own `to_thread`; Python's own bound is 5 or so.
        self._threads = ThreadPoolExecutor(_MAX_THREADS, thread_name_prefix=THREADS)
        asyncio.get_running_loop().set_default_executor(self._threads)
        set_up_traces(self._settings, self._traced_as)
        bus = await self._until_stop(connect(self._settings))
        if bus is None:
            return True
        self.kit = await _kit(bus, self._settings, self._name, self.metrics)
        labels = {"process": self._name or "services", "worker": str(self._place[0])}
        try:
            self._loops = PushLoops(self._settings, self._all, **labels)
            if not await self._until_stop(self._start(self.kit)):
                return True
            self.is_ready = True
            self._levels = LevelResponder(self.kit.bus)
            self._levels.start((host.service.name, host.id) for host in self.hosts)
            if self._settings.outbox:
                self._relay = WorkerRelay(self._settings, self.kit)
            if on_ready is not None:
                on_ready()
            return await self._until_failed()
        finally:
            await self._end(self.kit)

    def _all(self) -> list[Family]:
        """Return the families of all that is counted here, beside the process's."""
        number, restarts = self._place
        told = msgspec.to_builtins(report(self.kit, self.hosts))
        return families([(number, restarts, told)], self.own())

    async def _start(self, kit: Kit) -> bool:
        await start_all(kit, self._services, self.hosts)
        return True

    async def _until_stop(self, work: Any) -> Any:
        """Return what `work` gives; None if `stop` came first."""
        task = asyncio.ensure_future(work)
        stop = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
            return await task if task.done() else None
        finally:
            stop.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait((task,))

    async def _until_failed(self) -> bool:
        """Wait for `stop`, or for a service that must not go on; False for that."""
        stop = asyncio.ensure_future(self._stop.wait())
        pings = asyncio.ensure_future(self._hear_pings())
        failures = [host.failed for host in self.hosts]
        waits: list[asyncio.Future[Any]] = [stop, *failures]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        pings.cancel()
        failed = [f.exception() for f in failures if f.done()]
        for error in failed:
            _log.error("%s; this worker ends", error, exc_info=error)
        return not failed

    async def _hear_pings(self) -> None:
        if self._hears_pings:
            await warn_of_slow_pings(self._settings)

    async def _end(self, kit: Kit) -> None:
        self.is_draining = True
        self.is_ready = False
        if self._levels is not None:
            self._levels.stop()
        progress = asyncio.create_task(_tell_progress(self.hosts))
        try:
            limit = self._settings.drain_timeout
            drains = (host.drain(limit) for host in self.hosts)
            for result in await asyncio.gather(*drains, return_exceptions=True):
                if isinstance(result, BaseException):
                    _log.error("a service did not end well", exc_info=result)
        finally:
            progress.cancel()
            if self._relay is not None:  # after the last turns have committed
                await self._relay.close()
            if self._loops is not None:
                await self._loops.close()
            await kit.bus.close()
            await flush_traces()


async def connect(settings: Settings) -> Bus:
    """Return a bus, as soon as there is one.

    Raises:
        Unauthenticated: The server refuses the credentials.
        InvalidArgument: An address or a file is wrong.
    """
    from kitmsg.discovery.pool import connect_bus

    name = f"kitmsg worker {os.getpid()}"
    return await connect_bus(**settings.connection(name), wait=True)


async def _kit(bus: Bus, settings: Settings, name: str, metrics: Provider) -> Kit:
    """Return a kit on `bus` that trusts and signs as the settings say.

    Args:
        bus: The connection.
        settings: Keys and audience.
        name: Of the service that signs; "" for the one that a call comes from.
        metrics: The kit's.

    Raises:
        InvalidArgument: A key cannot be used.
        FailedPrecondition: A library is missing.
    """
    try:
        trust = trust_of(bus, settings.trusted_keys, settings.audience)
        auth = None
        if settings.signing_key:
            key, audience = settings.signing_key, settings.audience
            auth = PrincipalSigner(key, audience=audience).service(name)
    except KitError:
        await bus.close()
        raise
    return Kit(
        bus,
        trust=trust,
        auth=auth,
        metrics=metrics,
        makes_streams=settings.makes_streams,
    )


def _logged(service: Service | Factory) -> Service | Factory:
    """Return `service` with a log line for each call, around its own middlewares."""
    from kitmsg.middleware.log import log

    def add(instance: Service) -> Service:
        instance.middleware = (log(), *instance.middleware)
        return instance

    if isinstance(service, Service):
        return add(service)
    factory = service

    @functools.wraps(factory, updated=())  # its arguments are still to be found
    def make(**arguments: Any) -> Service:
        return add(factory(**arguments))

    return make


async def _tell_progress(hosts: list[ServiceHost]) -> None:
    boxes = [host.intake.mailbox for host in hosts]
    while True:
        held = sum(box.running + box.waiting for box in boxes)
        if held:
            _log.info("draining: %d call%s in hand", held, "s" if held > 1 else "")
        await asyncio.sleep(_PROGRESS_SECONDS)
