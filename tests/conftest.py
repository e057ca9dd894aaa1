"""Fixtures that tests of every part share."""

from __future__ import annotations

import logging
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from kitmsg import tracing
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.bus.memory import MemoryBus
from kitmsg.bus.nats import NatsBus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

# A shell that runs us in the background has SIGINT ignored, and so would every process
# that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no fault of what is tested.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


@pytest.fixture
def anyio_backend() -> str | tuple[str, dict[str, bool]]:
    """Run async tests on plain asyncio."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """Undo what a command did to logging, which it takes for its own."""
    root = logging.getLogger()
    before, level, hook = root.handlers[:], root.level, sys.excepthook
    levels = _levels()
    yield
    for name, one in _levels().items():
        if one != levels.get(name, logging.NOTSET):
            logging.getLogger(name).setLevel(levels.get(name, logging.NOTSET))
    if sys.excepthook is not hook:
        root.handlers[:] = before
        root.setLevel(level)
        sys.excepthook = hook
        logging.captureWarnings(capture=False)


@pytest.fixture(autouse=True)
def _untraced_afterwards() -> Iterator[None]:
    """Forget the tracer that a test, or a snippet of the docs, set for the process."""
    yield
    tracing.use(None)
    api: Any = sys.modules.get("opentelemetry.trace")
    if api is not None and api._TRACER_PROVIDER is not None:
        api._TRACER_PROVIDER = None
        api._TRACER_PROVIDER_SET_ONCE = type(api._TRACER_PROVIDER_SET_ONCE)()


def _levels() -> dict[str, int]:
    known = logging.root.manager.loggerDict
    return {n: one.level for n, one in known.items() if isinstance(one, logging.Logger)}


@pytest.fixture(scope="session")
def nats_server() -> Iterator[EmbeddedServer]:
    """A real server with JetStream, one for each process that runs tests.

    Do not kill it: a test that needs a server to die starts its own.
    """
    with EmbeddedServer() as server:
        yield server


@pytest.fixture
async def nats_bus(nats_server: EmbeddedServer) -> AsyncIterator[NatsBus]:
    """A connection to `nats_server`."""
    bus = await NatsBus.connect(nats_server.url)
    yield bus
    await bus.close()


@pytest.fixture
async def memory_bus() -> AsyncIterator[MemoryBus]:
    """A bus in this process, with repeatable choices."""
    bus = MemoryBus(seed=1)
    yield bus
    await bus.close()
