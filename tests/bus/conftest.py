"""Every bus test runs on both event loops: their transports fail in different ways.

A test that takes `bus` has a server of its own, to kill or to hang.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.bus.nats import NatsBus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Run async tests on asyncio's loop and on uvloop's."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(jetstream=False) as server:
        yield server


@pytest.fixture
async def bus(server: EmbeddedServer) -> AsyncIterator[NatsBus]:
    bus = await NatsBus.connect(server.url)
    yield bus
    await bus.close()
