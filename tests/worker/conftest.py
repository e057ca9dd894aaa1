"""A folder with services that behave, block, fail; and workers to serve them."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.worker.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kitmsg.bus.embedded import EmbeddedServer

_CODE = '''\
import asyncio, os, threading, time
from kitmsg import Service, Supervision, endpoint, run

tables = threading.Barrier(20)

class Desk(Service):
    """Answers."""
    drain_timeout = 10.0

    @endpoint
    async def pid(self) -> int:
        return os.getpid()

    @endpoint
    async def slow(self, seconds: float) -> int:
        await asyncio.sleep(seconds)
        return os.getpid()

    @endpoint
    async def stand_still(self) -> None:
        time.sleep(600)

class Brittle(Service):
    supervision = Supervision(policy="restart", max_restarts=1, window=60.0)

    @endpoint
    async def fail(self, how: str) -> int:
        raise RuntimeError("no luck")

    @endpoint
    async def pid(self) -> int:
        return os.getpid()

class Library(Service):
    concurrency = 20

    @endpoint
    def meet(self) -> int:
        return tables.wait(20)

class Hanging(Service):
    concurrency = 2
    drain_timeout = 0.5

    @endpoint
    def read(self) -> None:
        threading.Event().wait()

class Messy(Service):
    @endpoint
    async def pid(self) -> int:
        return os.getpid()

    async def stop(self) -> None:
        raise RuntimeError("lost the key")

class Unstartable(Service):
    async def start(self) -> None:
        raise RuntimeError("the database is not there")

    @endpoint
    async def pid(self) -> int:
        return os.getpid()

def make_desk() -> Service:
    return Desk()

if __name__ == "__main__":
    run(Desk())
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the module ``office``."""
    (tmp_path / "office.py").write_text(_CODE)
    return tmp_path


@pytest.fixture
def start(
    folder: Path, nats_server: EmbeddedServer
) -> Iterator[Callable[..., Command]]:
    """Return what starts ``kitmsg run`` in `folder`, on the test's server."""
    stack = ExitStack()

    def run(*args: str, nats_url: str = "") -> Command:
        url = nats_url or nats_server.url
        words = ["-m", "kitmsg.cli", "run", *args]
        return stack.enter_context(Command(words, folder, nats_url=url))

    with stack:
        yield run
