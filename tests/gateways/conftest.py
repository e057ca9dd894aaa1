"""Fixtures that the tests of every gateway share: a kit on the in-memory bus, waiting."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

import kitmsg

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from kitmsg.bus.memory import MemoryBus


async def _until(predicate: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not predicate():
            await asyncio.sleep(0.002)


@pytest.fixture
def until() -> Callable[[Callable[[], object]], Coroutine[None, None, None]]:
    """Give a function that waits until something is so, and fails after 10 s."""
    return _until


@pytest.fixture
async def hub(memory_bus: MemoryBus) -> AsyncIterator[kitmsg.Kit]:
    """A kit on the in-memory bus, on the real clock."""
    async with kitmsg.connect(bus=memory_bus) as kit:
        yield kit
