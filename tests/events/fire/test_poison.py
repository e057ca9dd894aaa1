"""A poison event among many others, and one that its handler holds for minutes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

import kitmsg
from kitmsg import Event, Kit, Service, subscribe
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.bus.memory import MemoryBus
from kitmsg.testing.loop import VirtualTimeLoop
from kitmsg.wire import DEAD_ATTEMPTS, DEAD_REASON
from tests.events.fire.fleet import is_long

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

EVENTS = 10_000 if is_long() else 500
POISON = EVENTS // 3

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 if is_long() else 180)]


class Entered(Event, subject="books.entered.{number}"):
    number: int


@pytest.fixture(params=["memory", "nats"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def anyio_backend(kind: str) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop} if kind == "memory" else {}


@pytest.fixture
async def kit(kind: str) -> AsyncIterator[Kit]:
    if kind == "memory":
        async with kitmsg.connect(bus=MemoryBus()) as made:
            yield made
        return
    with EmbeddedServer() as server:
        async with kitmsg.connect(server.url, makes_streams=True) as made:
            yield made


async def until(condition: Callable[[], Any], seconds: float = 120.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("concurrency", [1, 16])
async def test_a_poison_event_dies_after_its_retries_and_holds_nobody_up(
    kit: Kit, concurrency: int
) -> None:
    class Books(Service):
        def __init__(self) -> None:
            self.begun: list[int] = []
            self.tries: list[int] = []

        @subscribe(
            Entered, since="first", concurrency=concurrency, retries=(0.05, 0.1, 0.2)
        )
        async def enter(self, event: Entered) -> None:
            if event.number == POISON:
                self.tries.append(len(self.begun))
                raise RuntimeError("it does not add up")
            self.begun.append(event.number)
            await asyncio.sleep(0)

    books = Books()
    await kit.publish_many([Entered(n) for n in range(EVENTS)], timeout=60)
    await kit.serve(books)
    dead = await kit.jetstream.stream("dead")
    async with asyncio.timeout(300):
        while not (await dead.info()).messages:
            await asyncio.sleep(0.01)
    await until(lambda: len(books.begun) == EVENTS - 1)
    # The others are all done, once, in the order in which they were published.
    assert books.begun == [n for n in range(EVENTS) if n != POISON]
    assert books.tries[0] == POISON  # at its place
    assert len(books.tries) == 4
    [letter] = [each async for each in dead.read("dead.>")]
    assert letter.headers[DEAD_ATTEMPTS] == "4"
    assert letter.headers[DEAD_REASON] == "it does not add up"


class Holds(Service):
    """Takes an hour for each event."""

    def __init__(self) -> None:
        self.begun: list[float] = []
        self.ended = 0

    @subscribe(Entered, since="first", timeout=7200.0, retries=(1.0,))
    async def patiently(self, event: Entered) -> None:
        self.begun.append(asyncio.get_running_loop().time())
        await asyncio.sleep(3600)
        self.ended += 1

    @subscribe(Entered, since="first", timeout=600.0, retries=(1.0,))
    async def hastily(self, event: Entered) -> None:
        await asyncio.sleep(3600)


@pytest.mark.parametrize("kind", ["memory"])
async def test_a_handler_keeps_its_event_for_an_hour_and_loses_it_by_its_timeout(
    kit: Kit,
) -> None:
    one, other, elsewhere = Holds(), Holds(), Kit(kit.bus)
    await kit.serve(one)
    await elsewhere.serve(other)
    began = kit.jetstream.now()
    await kit.publish(Entered(1))
    await asyncio.sleep(3660)
    # Nobody else was given it in the meantime.
    assert len(one.begun) + len(other.begun) == one.ended + other.ended == 1
    dead = await kit.jetstream.stream("dead")
    [letter] = [each async for each in dead.read("dead.>")]
    assert letter.subject == "dead.holds.hastily"
    assert letter.headers[DEAD_REASON] == "it took more than 600 s"
    assert 1201 <= letter.time - began < 1205  # two attempts, and a second between them
    await elsewhere.drain()
