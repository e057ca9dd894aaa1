"""A bus with services on it, and commands run against it in this process."""

from __future__ import annotations

import asyncio
import threading
from datetime import date  # noqa: TC003  # read when `Shop` is defined
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

import kitmsg
from kitmsg import BusinessError, Service, endpoint
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.cli import main
from kitmsg.errors import Code, error_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from kitmsg.message import Message


class SoldOut(BusinessError):
    """It is sold out."""

    template = "{name} is sold out"
    name: str


class Shop(Service):
    """Sells things."""

    version = "1.2.3"

    @endpoint(http="GET /price/{name}")
    async def price(self, name: str, count: int = 1) -> float:
        """Tell what so many cost."""
        return 2.5 * count if name != "5" else 5.0

    @endpoint
    async def label(self, name: str | None, tags: list[str]) -> dict[str, Any]:
        return {"name": name, "tags": tags}

    @endpoint(raises=[SoldOut])
    async def buy(self, name: str) -> None:
        raise SoldOut(name)

    @endpoint
    async def fail(self, code: str) -> None:
        raise error_for(Code(code), "an error of its own")

    @endpoint
    async def echo(self, data: bytes, day: date) -> dict[str, Any]:
        return {"data": data, "day": day}

    @endpoint(subject="elsewhere.go", wire="gokit")
    async def go(self, s: str) -> str:
        if not s:
            raise kitmsg.errors.InvalidArgument("empty string")
        return s.upper()

    @endpoint
    async def wait(self) -> None:
        await asyncio.sleep(60)

    @endpoint
    async def shout(self, text: str) -> str:
        return text.upper()

    @endpoint(raises=[SoldOut])
    async def count(self, upto: int, fails: bool = False) -> AsyncIterator[int]:
        for i in range(upto):
            yield i
        if fails:
            raise SoldOut("tea")

    @endpoint
    async def add(self, numbers: AsyncIterator[int]) -> int:
        return sum([number async for number in numbers])


def plain(kit: kitmsg.Kit, message: Message) -> None:
    """Answer as a service that knows nothing of kitmsg."""
    kit.bus.publish(message.reply, b"pong " + message.data)


class Ran(NamedTuple):
    """What a command left: exit code, and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def shop() -> Iterator[str]:
    """Serve a `Shop` from another thread; gives the bus's address.

    The server is its own: other tests have services of that name too.
    """
    with EmbeddedServer() as server:
        yield from _served(server, Shop)


class Told(kitmsg.Event, subject="tales.told"):
    title: str


class Ended(kitmsg.Event, subject="tales.ended"):
    title: str


class Writer(kitmsg.Service):
    publishes = (Told, Ended)


class Reader(kitmsg.Service):
    @kitmsg.subscribe(Told, stored=False)
    async def read(self, event: Told) -> None: ...


@pytest.fixture(scope="session")
def tales() -> Iterator[str]:
    """Serve a `Writer` and a `Reader` of events from another thread; gives the address."""
    with EmbeddedServer() as server:
        yield from _served(server, Writer, Reader)


def _served(
    nats_server: EmbeddedServer, *services: type[kitmsg.Service]
) -> Iterator[str]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def serve() -> kitmsg.Kit:
        kit = await kitmsg.connect(nats_server.url)
        for service in services:
            await kit.serve(service())
        kit.bus.subscribe("plain.ping", lambda message: plain(kit, message))
        return kit

    kit = asyncio.run_coroutine_threadsafe(serve(), loop).result(10)
    yield nats_server.url

    async def end() -> None:
        await kit.drain(0.0)
        await kit.close()

    asyncio.run_coroutine_threadsafe(end(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ran]:
    """Return what runs a command here, on a bus that `nats_url` names."""

    def run(*words: str, nats_url: str = "nats://127.0.0.1:1") -> Ran:
        monkeypatch.setenv("NATS_URL", nats_url)
        try:
            code = main(words)
        except SystemExit as exc:
            code = int(exc.code or 0)
        printed = capsys.readouterr()
        return Ran(code, printed.out, printed.err)

    return run
