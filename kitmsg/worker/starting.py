"""Starts the services of one worker, so that one whose `start` calls another finds it.

A service starts after those that its constructor asks for; the others start at the same time.
One whose `start` finds nobody behind a service of this worker starts again, as soon as another
has started.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kitmsg.errors import NoResponders
from kitmsg.service.inject import made_by, needed_by

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kitmsg.service import Kit, Service, ServiceHost
    from kitmsg.worker.load import Factory

__all__ = ["start_all"]


async def start_all(
    kit: Kit, services: Sequence[Service | Factory], hosts: list[ServiceHost]
) -> None:
    """Serve `services` on `kit`.

    Args:
        kit: Their connection.
        services: Instances, or what makes them.
        hosts: Gets each as it starts; in the order of `services` in the end.

    Raises:
        Exception: The first that a `start` raised; the other starts are cancelled.
    """
    starting = _Starting(kit, services)
    try:
        async with asyncio.TaskGroup() as group:
            for index in range(len(services)):
                group.create_task(starting.start(index, hosts))
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    hosts.sort(key=starting.started.index)


class _Starting:
    """One start of all services."""

    def __init__(self, kit: Kit, services: Sequence[Service | Factory]) -> None:
        self.started: list[ServiceHost | None] = [None] * len(services)
        self._kit = kit
        self._services = services
        self._names = [getattr(made_by(each), "name", None) for each in services]
        # How many are in `kit.serve` now: when none is, no other can come any more.
        self._busy = 0
        # Set and replaced at each start, and each end of one that did not succeed.
        self._changed = asyncio.Event()

    async def start(self, index: int, hosts: list[ServiceHost]) -> None:
        """Start one service, when it is its turn."""
        first = self._before(index, {index})
        while any(self.started[each] is None for each in first):
            await self._change()
        while True:
            count = self._count()
            try:
                host = await self._serve(index)
            except NoResponders as exc:
                if not (self._is_ours(exc.subject) and await self._another(count)):
                    raise
            else:
                hosts.append(host)
                return

    async def _serve(self, index: int) -> ServiceHost:
        self._busy += 1
        try:
            host = self.started[index] = await self._kit.serve(self._services[index])
        finally:
            self._busy -= 1
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()
        return host

    def _before(self, index: int, above: set[int]) -> list[int]:
        """Return the services that come before one; those that need it too do not."""
        names = {cls.name for cls in needed_by(self._services[index])}
        found = [i for i, name in enumerate(self._names) if name in names]
        return [i for i in found if i not in above and not self._needs(i, above)]

    def _needs(self, index: int, wanted: set[int]) -> bool:
        """Tell whether a service needs one of `wanted`, itself or through others."""
        seen, queue = {index}, [index]
        while queue:
            names = {cls.name for cls in needed_by(self._services[queue.pop()])}
            found = {i for i, name in enumerate(self._names) if name in names}
            if found & wanted:
                return True
            queue += found - seen
            seen |= found
        return False

    def _is_ours(self, subject: str) -> bool:
        names = self._names
        return None in names or subject.partition(".")[0] in names

    def _count(self) -> int:
        return sum(host is not None for host in self.started)

    async def _another(self, count: int) -> bool:
        """Wait until another service has started; False when none will."""
        while self._count() == count and self._busy:
            await self._change()
        return self._count() > count

    async def _change(self) -> None:
        await self._changed.wait()
