"""Kits on a server of their own, because streams have names that tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import kitmsg
from kitmsg.bus.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from kitmsg import Kit


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as server:
        yield server


@pytest.fixture
async def kit(server: EmbeddedServer) -> AsyncIterator[Kit]:
    async with kitmsg.connect(server.url) as kit:
        kit.makes_streams = True
        yield kit
