"""Blocking endpoints: threads of their own service, each with its turn as long as it runs."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg import Kit, Service, endpoint
from kitmsg.errors import Cancelled, DeadlineExceeded, ResourceExhausted
from kitmsg.middleware import timeout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kitmsg.bus.memory import MemoryBus


class Gate:
    """A dependency that hangs until it is opened."""

    def __init__(self) -> None:
        self.hangs = threading.Semaphore(0)
        self._open = threading.Event()

    def wait(self) -> None:
        """Hang, as seen by `hung`."""
        self.hangs.release()
        assert self._open.wait(60)

    async def hung(self, count: int = 1) -> None:
        """Wait until so many more calls hang."""
        for _ in range(count):
            assert await asyncio.to_thread(self.hangs.acquire, timeout=20)

    def open(self) -> None:
        """Let everybody through."""
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate that no thread hangs at when the test is over."""
    made = Gate()
    yield made
    made.open()


@pytest.fixture
def kit(memory_bus: MemoryBus) -> Kit:
    """A kit on the clock of the wall: threads do not know another."""
    return Kit(memory_bus)


class Store(Service):
    """Blocks."""

    concurrency = 2
    mailbox = 8

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    @endpoint
    def read(self) -> str:
        self.gate.wait()
        return "read"

    @endpoint(middleware=[timeout(0.05)])
    def read_impatiently(self) -> str:
        self.gate.wait()
        return "read"

    @endpoint
    async def ping(self) -> str:
        return "pong"


async def until(kit: Kit, *, is_stuck: bool) -> None:
    """Wait until the first service is stuck, or no longer."""
    box = kit.hosts[0].intake.mailbox
    async with asyncio.timeout(20):
        while box.is_stuck is not is_stuck:
            await asyncio.sleep(0.01)


def is_member(kit: Kit) -> bool:
    """Tell whether the first service is in its queue group."""
    return kit.hosts[0].intake.is_member


def stats(kit: Kit) -> dict[str, Any]:
    """Return what STATS says of ``store.read``."""
    (found,) = (e for e in kit.hosts[0].report().endpoints if e.name == "read")
    return found.data


async def test_there_are_as_many_threads_as_turns(kit: Kit) -> None:
    """All of the declared concurrency blocks at once, however few cores there are."""
    everybody = threading.Barrier(64)

    class Library(Service):
        concurrency = 64

        @endpoint
        def meet(self) -> int:
            return everybody.wait(20)

    await kit.serve(Library())
    client = kit.client(Library, timeout=20)
    places = await asyncio.gather(*(client.meet() for _ in range(64)))
    assert sorted(places) == list(range(64))
    await kit.drain()


async def test_a_hanging_service_takes_no_other_services_threads(
    kit: Kit, gate: Gate
) -> None:
    """Each service has threads of its own."""

    class Clerk(Service):
        @endpoint
        def sign(self) -> str:
            return "signed"

    await kit.serve(Store(gate))
    await kit.serve(Clerk())
    stuck = [asyncio.create_task(kit.call("store.read")) for _ in range(2)]
    await gate.hung(2)
    assert await kit.client(Clerk).sign() == "signed"
    gate.open()
    assert await asyncio.gather(*stuck) == ["read", "read"]
    await kit.drain()


@pytest.mark.parametrize("how", ["deadline", "cancel", "middleware"])
async def test_a_thread_keeps_the_turn_of_a_call_that_is_over(
    kit: Kit, gate: Gate, how: str
) -> None:
    """Its caller is answered at once; STATS and the mailbox count it until it returns."""
    await kit.serve(Store(gate))
    name = "store.read_impatiently" if how == "middleware" else "store.read"
    limit = 0.05 if how == "deadline" else 20
    call = asyncio.create_task(kit.call(name, timeout=limit))
    await gate.hung()
    if how == "cancel":
        call.cancel()
    with pytest.raises((DeadlineExceeded, Cancelled, asyncio.CancelledError)):
        await call
    box = kit.hosts[0].intake.mailbox
    async with asyncio.timeout(20):
        while not box.held:
            await asyncio.sleep(0.01)
    assert (box.running, box.held, box.is_stuck) == (1, 1, False)
    assert stats(kit)["held"] == 1
    assert await kit.call("store.ping") == "pong"
    gate.open()
    await kit.drain(20)
    assert (box.running, box.held) == (0, 0)


async def test_when_all_threads_hang_it_refuses_and_leaves(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    """What waits and what comes is refused, others have its share, and it comes back."""
    hanging, sound = Gate(), Gate()
    sound.open()
    await kit.serve(Store(hanging))
    calls = [asyncio.create_task(kit.call("store.read", timeout=0.3)) for _ in range(2)]
    await hanging.hung(2)
    waiting = asyncio.create_task(kit.call("store.read", timeout=20))
    await until(kit, is_stuck=True)
    with pytest.raises(ResourceExhausted, match="stuck: 2 threads run for calls"):
        await waiting
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in done] == [DeadlineExceeded] * 2
    assert not is_member(kit)
    assert "store is stuck: its 2 threads" in caplog.text
    assert stats(kit)["is_stuck"]
    await kit.serve(Store(sound))
    assert [await kit.call("store.read") for _ in range(8)] == ["read"] * 8
    hanging.open()
    await until(kit, is_stuck=False)
    async with asyncio.timeout(20):
        while not is_member(kit):
            await asyncio.sleep(0.01)
    await kit.drain()


async def test_without_limits_threads_are_still_counted(kit: Kit, gate: Gate) -> None:
    """`off = ("limit",)` bounds no turns; the threads are `concurrency`, and get stuck."""

    class Free(Store):
        name = "store"
        off = ("limit",)

    await kit.serve(Free(gate))
    calls = [asyncio.create_task(kit.call("store.read", timeout=0.1)) for _ in range(3)]
    await gate.hung(2)
    await until(kit, is_stuck=True)
    with pytest.raises(ResourceExhausted):
        await kit.call("_kit.i.store." + kit.hosts[0].id + ".store.ping")
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in done] == [DeadlineExceeded] * 3
    gate.open()
    await until(kit, is_stuck=False)
    assert await kit.call("store.ping") == "pong"
    await kit.drain()
