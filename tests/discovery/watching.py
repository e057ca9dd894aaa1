"""An observer of an instancer that tests wait on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from kitmsg.discovery.instance import Instance
    from kitmsg.discovery.instancer import Instancer

__all__ = ["Watching"]


class Watching:
    """What an observer was told, and how to wait for more."""

    def __init__(self, instancer: Instancer) -> None:
        self.instancer = instancer
        self.told: list[tuple[Instance, ...]] = []
        self._changed = asyncio.Event()
        self.unwatch = instancer.watch(self._tell)

    def _tell(self, instances: tuple[Instance, ...]) -> None:
        self.told.append(instances)
        self._changed.set()

    @property
    def addresses(self) -> set[str] | None:
        """The set as it was told last; None before any."""
        return {each.address for each in self.told[-1]} if self.told else None

    async def until(self, addresses: set[str]) -> None:
        """Wait until exactly these were told."""
        try:
            async with asyncio.timeout(20):
                while self.addresses != addresses:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            state = self.instancer.state
            pytest.fail(f"{self.addresses} were told, not {addresses}: {state}")

    async def until_lost(self) -> None:
        """Wait until the state has an error."""
        async with asyncio.timeout(20):
            while self.instancer.state.error is None:
                await asyncio.sleep(0.02)

    async def until_found(self) -> None:
        """Wait until the state has no error."""
        async with asyncio.timeout(20):
            while self.instancer.state.error is not None:
                await asyncio.sleep(0.02)
